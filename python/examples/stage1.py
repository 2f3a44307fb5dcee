"""Stage I of Render-of-Thought (arXiv 2601.14750) from a store: a frozen language model, and a head that learns to
predict the vision embeddings of the rendered trace, one after another, from the model's last hidden state.

    python stage1.py out/gsm8k-aug.json train Qwen/Qwen3-VL-4B-Instruct
    python stage1.py out/demo/demo.json words tiny          # after rotoscope init-model tiny --arch tiny --text
"""
import argparse
import json

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForImageTextToText

from rotoscope.torch import Loader, pad


class Head(torch.nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.into, self.out = torch.nn.Sequential(torch.nn.LayerNorm(d), torch.nn.Linear(d, h)), torch.nn.Linear(h, d)
        self.gate, self.up, self.down = (torch.nn.Linear(h, h, bias=False) for _ in range(3))

    def forward(self, x):
        x = self.into(x)
        return self.out(self.down(F.silu(self.gate(x)) * self.up(x)))


@torch.no_grad()  # what is fed back is detached, so the vision loss needs no graph here: one head pass over all states
def rollout(decoder, head, questions, steps):
    """(n, steps, d): the states from which v1 .. vK are predicted; each v is the next input."""
    ids = pad_sequence(questions, True, padding_side="left")
    mask = pad_sequence([torch.ones_like(q) for q in questions], True, padding_side="left")
    out = decoder(input_ids=ids, attention_mask=mask, use_cache=True)
    states = [out.last_hidden_state[:, -1]]
    for _ in range(1, steps):
        mask = F.pad(mask, (0, 1), value=1)
        v = head(states[-1].float()).to(states[-1].dtype)[:, None]  # (n, 1, d)
        out = decoder(inputs_embeds=v, attention_mask=mask, past_key_values=out.past_key_values, use_cache=True)
        states.append(out.last_hidden_state[:, -1])
    return torch.stack(states, 1)


def losses(model, head, batch):
    """Vision: mean squared error over d, then K. Answer: cross-entropy of the answer's tokens behind question and
    predictions, through the frozen model into the head. Of both the mean over samples, whatever their lengths."""
    decoder, embed, to_logits = model.model.language_model, model.get_input_embeddings(), model.get_output_embeddings()
    question, answer = (batch[n + "_ids"].long().split(batch[n + "_cu_seqlens"].diff().tolist())
                        for n in ("question", "answer"))
    targets, mask = pad(batch)  # (n, K, d), (n, K)
    v = head(rollout(decoder, head, question, targets.shape[1]).float())
    vision = (((v - targets.float()).square().mean(-1) * mask).sum(1) / mask.sum(1)).mean()
    rows = [torch.cat([embed(q), p[m].to(embed.weight.dtype), embed(a)])
            for q, p, m, a in zip(question, v, mask, answer)]  # padded behind, where no other position sees it
    states = decoder(inputs_embeds=pad_sequence(rows, True)).last_hidden_state
    each = [F.cross_entropy(to_logits(s[len(r) - len(a) - 1:len(r) - 1]).float(), a)
            for s, r, a in zip(states, rows, answer)]
    return vision, torch.stack(each).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("dataset", "split", "model"):
        parser.add_argument(name)
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args()
    loader = Loader(args.dataset, args.split, budget=512, bucket=True, num_workers=1, seed=0)
    model = AutoModelForImageTextToText.from_pretrained(args.model, dtype="auto").requires_grad_(False).eval()
    head = Head(loader.dataset.width, 2 * loader.dataset.width)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.01)
    for _ in range(args.epochs):
        for batch in loader:
            vision, answer = losses(model, head, batch)
            optimizer.zero_grad()
            (10 * vision + answer).backward()
            optimizer.step()
            print(json.dumps({**loader.state_dict(), "vision": vision.item(), "answer": answer.item()}))


if __name__ == "__main__":
    main()
