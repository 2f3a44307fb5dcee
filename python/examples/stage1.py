"""Stage I of Render-of-Thought (arXiv 2601.14750) from a store: a frozen language model, and a head that learns to
predict the vision embeddings of the rendered trace, one after another, from the model's last hidden state.

    python stage1.py out/gsm8k-aug.json --split train --model Qwen/Qwen3-VL-4B-Instruct
    python stage1.py out/demo/demo.json --split words --steps 20        # a small random model
"""
import argparse
import json

import torch
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
        return self.out(self.down(torch.nn.functional.silu(self.gate(x)) * self.up(x)))


def make_model(name, width):
    if name:
        model = AutoModelForImageTextToText.from_pretrained(name, dtype=torch.bfloat16)
    else:
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(Qwen3Config(vocab_size=152_000, hidden_size=width, intermediate_size=2 * width,
                                             num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                                             head_dim=32))
    return model.requires_grad_(False).eval(), getattr(model.model, "language_model", model.model)


@torch.no_grad()  # what is fed back is detached, so the vision loss needs no graph here: one head pass over all states
def rollout(decoder, head, question, lengths, steps):
    """(n, steps, d): the states from which v1 .. vK are predicted; each v is the next input."""
    mask = torch.arange(question.shape[1]) < lengths[:, None]
    out = decoder(input_ids=question, attention_mask=mask.long(), use_cache=True)
    states = [out.last_hidden_state[torch.arange(len(question)), lengths - 1]]
    for i in range(1, steps):
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        out = decoder(inputs_embeds=head(states[-1].float()).to(states[-1].dtype)[:, None], use_cache=True,
                      attention_mask=mask.long(), position_ids=(lengths + i - 1)[:, None],
                      past_key_values=out.past_key_values)
        states.append(out.last_hidden_state[:, -1])
    return torch.stack(states, 1)


def losses(model, decoder, head, batch):
    """Vision: mean squared error over d, then K. Answer: cross-entropy of the answer's tokens behind question and
    predictions, through the frozen model into the head. Of both the mean over samples, whatever their lengths."""
    ids = {name: torch.tensor_split(batch[name + "_ids"].long(), batch[name + "_cu_seqlens"][1:-1].long())
           for name in ("question", "answer")}
    targets, mask = pad(batch)  # (n, K, d), (n, K)
    lengths = torch.tensor([len(q) for q in ids["question"]])
    v = head(rollout(decoder, head, pad_sequence(ids["question"], batch_first=True), lengths, targets.shape[1]).float())
    vision = (((v - targets.float()).square().mean(-1) * mask).sum(1) / mask.sum(1)).mean()
    embed = model.get_input_embeddings()
    parts = [torch.cat([embed(q), p[m].to(embed.weight.dtype), embed(a)])
             for q, p, m, a in zip(ids["question"], v, mask, ids["answer"])]
    labels = [torch.cat([a.new_full((len(p) - len(a),), -100), a]) for p, a in zip(parts, ids["answer"])]
    states = decoder(inputs_embeds=pad_sequence(parts, batch_first=True)).last_hidden_state  # pads are behind: unseen
    labels = pad_sequence(labels, batch_first=True, padding_value=-100)
    logits = model.get_output_embeddings()(states[:, :-1][labels[:, 1:] != -100]).float()  # (sum of answers, vocabulary)
    each = torch.nn.functional.cross_entropy(logits, torch.cat(ids["answer"]), reduction="none")
    return vision, torch.stack([e.mean() for e in each.split([len(a) for a in ids["answer"]])]).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset")
    parser.add_argument("--split")
    parser.add_argument("--model", help="a Qwen3-VL checkpoint; a small random model if left out")
    for name, default in (("budget", 512), ("steps", 100), ("lr", 1e-3)):  # budget: merged tokens in a batch
        parser.add_argument("--" + name, type=type(default), default=default)
    args = parser.parse_args()
    loader = Loader(args.dataset, args.split, budget=args.budget, bucket=True, num_workers=1, seed=0)
    width = loader.dataset.width
    (model, decoder), head = make_model(args.model, width), Head(width, 2 * width)
    optimizer = torch.optim.AdamW(head.parameters(), lr=args.lr, weight_decay=0.01)
    told = []
    while len(told) < args.steps:
        for _, batch in zip(range(args.steps - len(told)), loader):
            vision, answer = losses(model, decoder, head, batch)
            loss = 10 * vision + answer
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            told.append([loss.item(), vision.item(), answer.item()])
            print("step {}  loss {:.4f}  vision {:.4f}  answer {:.4f}".format(len(told), *told[-1]))
    few = max(1, len(told) // 4)
    first, last = torch.tensor(told[:few]).mean(0).tolist(), torch.tensor(told[-few:]).mean(0).tolist()
    print(json.dumps({"steps": len(told), "first": first, "last": last, "state": loader.state_dict()}))


if __name__ == "__main__":
    main()
