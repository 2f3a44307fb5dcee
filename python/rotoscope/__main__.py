"""python -m rotoscope: a split in the formats of other libraries, figures; convert-rot: checkpoints of the published
code."""
import argparse
import sys

from . import RotoscopeError, open, plots
from .export import FORMATS, __doc__ as about
from .export import condition, export


def add_export(verbs):
    verb = verbs.add_parser("export", help="write a split in another format", description=about,
                            formatter_class=argparse.RawDescriptionHelpFormatter)
    verb.add_argument("dataset", help="a dataset's JSON file")
    verb.add_argument("--split", help="may be left out if there is one")
    verb.add_argument("--to", required=True, choices=sorted(FORMATS))
    verb.add_argument("-o", "--output", required=True, help="a new folder; a new file for parquet")
    verb.add_argument("--stages", help="comma-separated, of tokens,images,embeds; all that are built if left out")
    verb.add_argument("--where", action="append", default=[], metavar="COND",
                      help=f"{' '.join((condition.__doc__ or '').split())} Given several times, all must hold")
    verb.add_argument("--limit", type=int, help="write at most this many samples")
    verb.set_defaults(run=run_export)


def run_export(args):
    ds = open(args.dataset, args.split, stages=args.stages.split(",") if args.stages else None)
    n = export(ds, args.to, args.output, where=args.where, limit=args.limit)
    return f"{n} samples of {ds.name}, split {ds.split}: {args.output}"


def add_plots(verbs):
    verb = verbs.add_parser("latents", help="figures of latents beside their teacher's")
    verb.add_argument("file", help="of rotoscope generate --latents-out")
    verb.add_argument("-o", "--output", required=True, help="a folder")
    verb.add_argument("--question", type=int, action="append", help="its number; all if left out")
    verb.set_defaults(run=lambda a: f"{len(plots.draw_latents(a.file, a.output, a.question))} figures: {a.output}")
    verb = verbs.add_parser("tree", help="the probability of nodes after each latent")
    verb.add_argument("file", help="of rotoscope generate --tree-out")
    verb.add_argument("-o", "--output", required=True, help="a PNG, PDF or SVG file")
    verb.add_argument("--question", type=int, help="each node of this one; the mean of all if left out")
    verb.set_defaults(run=lambda a: plots.draw_tree(a.file, a.output, a.question))
    verb = verbs.add_parser("curves", help="training logs as curves")
    verb.add_argument("file", nargs="+", help="logs of rotoscope train: lines of JSON with a step")
    verb.add_argument("-o", "--output", required=True, help="a PNG, PDF or SVG file")
    verb.add_argument("--key", action="append", help="what to draw; losses and lr if left out")
    verb.set_defaults(run=lambda a: plots.draw_curves(a.file, a.output, a.key))


def main() -> int:
    if sys.argv[1:2] == ["convert-rot"]:
        from .convert import main as convert_rot
        return convert_rot(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m rotoscope", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    add_export(verbs)
    add_plots(verbs)
    args = parser.parse_args()
    try:
        said = args.run(args)
    except (RotoscopeError, ImportError, OSError, ValueError) as e:
        print(f"rotoscope: {e}", file=sys.stderr)
        return 3 if getattr(e, "name", "") == "corrupt" else 2 if isinstance(e, (ImportError, ValueError, OSError)) else 1
    print(said, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
