"""Targets for the published Render-of-Thought code from a store, instead of drawing and encoding in every step.

Its vision branch needs two things of a sample: the target embeddings, (K, d) in bfloat16 and detached, and K. This
object answers for both. docs/rot.md says where it goes.

    targets = StoredTargets("out/gsm8k-aug.json", "train")
    t = targets(cot_text)            # (K, d), as rendering and encoding this text would give
    t = targets.by_id(sample_id)     # quicker, and right where two samples have the same text
"""
import argparse
import hashlib
import json

import torch

import rotoscope


class StoredTargets:
    """Looks targets up by the id of a sample or by its chain of thought."""

    def __init__(self, dataset, split=None, device="cpu"):
        self.store = rotoscope.open(dataset, split, stages=["tokens", "embeds"])
        self.device = device
        self._of_text = None

    def _fetch(self, index):
        values = self.store.embeddings(index)  # (K, d) a view of the store
        return rotoscope.as_torch(values.copy()).to(self.device, non_blocking=True)

    def by_id(self, sample_id):
        """(K, d) torch.bfloat16 of the sample with this id."""
        return self._fetch(self.store.find(sample_id))

    def __call__(self, text):
        """(K, d) torch.bfloat16 of a sample with this chain of thought. KeyError: there is none in the store."""
        if self._of_text is None:  # 16 bytes a sample; the texts themselves stay in the store
            self._of_text = {self._key(self.store.tokens(i)["trace"]): i for i in range(len(self.store))}
        key = self._key(text)
        if key not in self._of_text:
            raise KeyError(f"no sample of {self.store!r} has the chain of thought {text[:80]!r}")
        return self._fetch(self._of_text[key])

    def batch(self, texts):
        """A list of (K, d), as the training loop takes them."""
        return [self(text) for text in texts]

    @staticmethod
    def _key(text):
        return hashlib.blake2b(text.encode(), digest_size=16).digest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset")
    parser.add_argument("--split")
    args = parser.parse_args()
    targets = StoredTargets(args.dataset, args.split)
    largest, n = 0.0, min(4, len(targets.store))
    for sample in (targets.store[i] for i in range(n)):
        # What the training loop does with a target: one prediction per row, mean over d, mean over K.
        target = targets(sample["trace"])
        predicted = torch.zeros_like(target, requires_grad=True)
        loss = torch.stack([torch.nn.functional.mse_loss(predicted[i], target[i]) for i in range(len(target))]).mean()
        loss.backward()
        assert target.shape == (sample["K"], targets.store.width) and not target.requires_grad
        again = targets.by_id(sample["id"]).float()
        largest = max(largest, (target.float() - again).abs().max().item())
        print(f"{sample['id']}: K {sample['K']}, loss against zeros {loss.item():.4f}")
    print(json.dumps({"samples": n, "largest_difference": largest}))


if __name__ == "__main__":
    main()
