"""Stage I of Render-of-Thought (arXiv 2601.14750) from a store: a frozen language model, and a head that learns to
predict the vision embeddings of the rendered trace, one after another, from its last hidden state.

    python stage1.py out/gsm8k-aug.json --split train --model Qwen/Qwen3-VL-4B-Instruct
    python stage1.py out/demo/demo.json --split words --steps 20        # a small random decoder

The rollout runs without autograd, batched over samples: what is fed back is detached, so the gradient of the vision
loss reaches the head alone. The answer loss is left out (its weight in Stage I is a tenth of this one's).
"""
import argparse
import json

import torch
from transformers import AutoModelForImageTextToText, Qwen3Config, Qwen3Model

from rotoscope.torch import Loader, pad


class SwiGLU(torch.nn.Module):
    def __init__(self, h):
        super().__init__()
        self.w1, self.w2, self.w3 = (torch.nn.Linear(h, h, bias=False) for _ in range(3))

    def forward(self, x):
        return self.w3(torch.nn.functional.silu(self.w1(x)) * self.w2(x))


def make_head(d, h):
    return torch.nn.Sequential(torch.nn.LayerNorm(d), torch.nn.Linear(d, h), SwiGLU(h), torch.nn.Linear(h, d))


def make_decoder(args, width):
    if args.model:
        full = AutoModelForImageTextToText.from_pretrained(args.model, dtype=torch.bfloat16)
        decoder = full.model.language_model
    else:
        torch.manual_seed(0)
        decoder = Qwen3Model(Qwen3Config(
            vocab_size=152_000, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=args.layers,
            num_attention_heads=4, num_key_value_heads=2, head_dim=32))
    return decoder.requires_grad_(False).eval()


@torch.no_grad()
def rollout(decoder, head, question, lengths, steps):
    """(n, steps, d): the hidden states from which v1 .. vK are predicted; each v is fed back as the next input."""
    last = lengths - 1
    mask = torch.arange(question.shape[1])[None, :] < lengths[:, None]
    out = decoder(input_ids=question, attention_mask=mask.long(), use_cache=True)
    states = [out.last_hidden_state[torch.arange(len(question)), last]]
    for i in range(1, steps):
        fed = head(states[-1].float()).to(states[-1].dtype)[:, None, :]
        mask = torch.cat([mask, torch.ones(len(question), 1, dtype=torch.bool)], 1)
        out = decoder(inputs_embeds=fed, attention_mask=mask.long(), position_ids=(lengths + i - 1)[:, None],
                      past_key_values=out.past_key_values, use_cache=True)
        states.append(out.last_hidden_state[:, -1])
    return torch.stack(states, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset")
    parser.add_argument("--split")
    parser.add_argument("--model", help="a Qwen3-VL checkpoint; a small random decoder if left out")
    parser.add_argument("--budget", type=int, default=512, help="merged tokens in a batch")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    loader = Loader(args.dataset, args.split, budget=args.budget, bucket=True, num_workers=1, seed=0)
    d = loader.dataset.width
    decoder, head = make_decoder(args, d), make_head(d, 2 * d)
    optimizer = torch.optim.AdamW(head.parameters(), lr=args.lr, weight_decay=0.01)
    losses = []
    while len(losses) < args.steps:
        for batch in loader:
            begins = batch["question_cu_seqlens"].tolist()
            parts = [batch["question_ids"][a:b] for a, b in zip(begins, begins[1:])]
            question = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True).long()
            targets, mask = pad(batch)  # (n, K, d), (n, K)
            states = rollout(decoder, head, question, torch.tensor([len(p) for p in parts]), targets.shape[1])
            error = (head(states.float()) - targets.float()).square().mean(-1)  # (n, K)
            loss = (error * mask).sum(1).div(mask.sum(1)).mean()  # samples weigh the same, whatever their K
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            print(f"step {len(losses)}  K {targets.shape[1]}  loss {losses[-1]:.4f}")
            if len(losses) == args.steps:
                break
    few = max(1, len(losses) // 4)
    print(json.dumps({"steps": len(losses), "first_loss": sum(losses[:few]) / few, "last_loss": sum(losses[-few:]) / few,
                      "state": loader.state_dict()}))


if __name__ == "__main__":
    main()
