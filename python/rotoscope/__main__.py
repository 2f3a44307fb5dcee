"""python -m rotoscope export: a split in the formats of other libraries; convert-rot: checkpoints of the published code."""
import argparse
import sys

from . import RotoscopeError, open
from .export import FORMATS, __doc__ as about
from .export import condition, export


def main() -> int:
    if sys.argv[1:2] == ["convert-rot"]:
        from .convert import main as convert_rot
        return convert_rot(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m rotoscope", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
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
    args = parser.parse_args()
    try:
        ds = open(args.dataset, args.split, stages=args.stages.split(",") if args.stages else None)
        n = export(ds, args.to, args.output, where=args.where, limit=args.limit)
    except (RotoscopeError, ImportError, OSError, ValueError) as e:
        print(f"rotoscope: {e}", file=sys.stderr)
        return 3 if getattr(e, "name", "") == "corrupt" else 2 if isinstance(e, (ImportError, ValueError, OSError)) else 1
    print(f"{n} samples of {ds.name}, split {ds.split}: {args.output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
