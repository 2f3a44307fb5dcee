"""Stage I of Render-of-Thought (arXiv 2601.14750) from a store: a frozen language model, and a head that learns to
predict the vision embeddings of the rendered trace, one after another, from the model's last hidden state.

    python stage1.py out/gsm8k-aug.json --split train --model Qwen/Qwen3-VL-4B-Instruct
    python stage1.py out/demo/demo.json --split words --steps 20        # a small random model
"""
import argparse
import itertools
import json

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForImageTextToText, Qwen3Config, Qwen3ForCausalLM

from rotoscope.torch import Loader, pad


class Head(torch.nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.into, self.out = torch.nn.Sequential(torch.nn.LayerNorm(d), torch.nn.Linear(d, h)), torch.nn.Linear(h, d)
        self.gate, self.up, self.down = (torch.nn.Linear(h, h, bias=False) for _ in range(3))

    def forward(self, x):
        x = self.into(x)
        return self.out(self.down(F.silu(self.gate(x)) * self.up(x)))


def make_model(name, width):
    if name:
        model = AutoModelForImageTextToText.from_pretrained(name, dtype=torch.bfloat16)
    else:
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(Qwen3Config(hidden_size=width, intermediate_size=width, num_hidden_layers=2, head_dim=8))
    return model.requires_grad_(False).eval(), getattr(model.model, "language_model", model.model)


@torch.no_grad()  # what is fed back is detached, so the vision loss needs no graph here: one head pass over all states
def rollout(decoder, head, question, lengths, steps):
    """(n, steps, d): the states from which v1 .. vK are predicted; each v is the next input."""
    mask = (torch.arange(question.shape[1]) < lengths[:, None]).long()
    out = decoder(input_ids=question, attention_mask=mask, use_cache=True)
    states = [out.last_hidden_state[torch.arange(len(question)), lengths - 1]]
    for i in range(1, steps):
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        v = head(states[-1].float()).to(states[-1].dtype)[:, None]  # (n, 1, d)
        out = decoder(inputs_embeds=v, attention_mask=mask, position_ids=(lengths + i - 1)[:, None],
                      past_key_values=out.past_key_values, use_cache=True)
        states.append(out.last_hidden_state[:, -1])
    return torch.stack(states, 1)


def losses(model, decoder, head, batch):
    """Vision: mean squared error over d, then K. Answer: cross-entropy of the answer's tokens behind question and
    predictions, through the frozen model into the head. Of both the mean over samples, whatever their lengths."""
    question, answer = (batch[n + "_ids"].long().split(batch[n + "_cu_seqlens"].diff().tolist())
                        for n in ("question", "answer"))
    targets, mask = pad(batch)  # (n, K, d), (n, K)
    lengths = torch.tensor([len(q) for q in question])
    v = head(rollout(decoder, head, pad_sequence(question, batch_first=True), lengths, targets.shape[1]).float())
    vision = (((v - targets.float()).square().mean(-1) * mask).sum(1) / mask.sum(1)).mean()
    embed = model.get_input_embeddings()
    rows = [torch.cat([embed(q), p[m].to(embed.weight.dtype), embed(a)])
            for q, p, m, a in zip(question, v, mask, answer)]  # padded behind, where no other position sees it
    states = decoder(inputs_embeds=pad_sequence(rows, batch_first=True)).last_hidden_state
    each = [F.cross_entropy(model.get_output_embeddings()(s[len(r) - len(a) - 1:len(r) - 1]).float(), a)
            for s, r, a in zip(states, rows, answer)]
    return vision, torch.stack(each).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset")
    parser.add_argument("--split")
    parser.add_argument("--model", help="a Qwen3-VL checkpoint; a small random model if left out")
    parser.add_argument("--budget", type=int, default=512, help="merged tokens in a batch")
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    loader = Loader(args.dataset, args.split, budget=args.budget, bucket=True, num_workers=1, seed=0)
    width = loader.dataset.width
    (model, decoder), head = make_model(args.model, width), Head(width, 2 * width)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.01)
    epochs = itertools.chain.from_iterable(itertools.repeat(loader))  # each pass over the loader is the next epoch
    for step, batch in enumerate(itertools.islice(epochs, args.steps), 1):
        vision, answer = losses(model, decoder, head, batch)
        optimizer.zero_grad()
        (10 * vision + answer).backward()
        optimizer.step()
        print(json.dumps({"step": step, "vision": vision.item(), "answer": answer.item()}))
    print(json.dumps(loader.state_dict()))


if __name__ == "__main__":
    main()
