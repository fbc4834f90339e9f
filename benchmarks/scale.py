"""What a number of photos takes: core-hours, hours, bandwidth and cost, from measured figures and a price list.

    python benchmarks/scale.py --photos 1000000

Every figure is an option; the defaults are those of docs/scale.md, whose prices are examples and no offer of anybody.
"""

from __future__ import annotations

import argparse

MEASURED = {
    "ms": (27.6, "processor time per photo, milliseconds"),
    "read_kb": (349.7, "kilobytes of a photo"),
    "write_kb": (14.4, "kilobytes of its mask"),
    "journal_kb": (0.9, "kilobytes of its line in the journal"),
    "reads": (2.0, "requests that read a photo from S3"),
    "writes": (1.0, "requests that write its mask to S3"),
}
ASSUMED = {
    "photos": (1e6, "how many"),
    "efficiency": (0.8, "share of the cores' time that goes into photos"),
    "copies": (12.0, "how many times its last size the journal is copied to S3"),
}
PRICES = {
    "core_hour": (0.04, "of one core for an hour"),
    "read_thousand": (0.0004, "of a thousand requests that read"),
    "write_thousand": (0.005, "of a thousand requests that write"),
    "gb_month": (0.023, "of keeping a gigabyte for a month"),
    "gb_out": (0.09, "of a gigabyte that leaves the store's region"),
}
CLUSTERS = ((1, 2), (1, 16), (4, 16), (8, 16), (16, 32))


def report(given: argparse.Namespace) -> None:
    """Prints the tables."""
    core_hours = given.photos * given.ms / 3.6e6 / given.efficiency
    read, written = (given.photos * size / 1e6 for size in (given.read_kb, given.write_kb))
    journal = given.photos * given.journal_kb / 1e6 * given.copies
    print(f"{core_hours:.1f} core-hours; {read:.0f} GB read, {written:.1f} GB written, {journal:.1f} GB of journal\n")
    print(
        "| machines x cores | hours | photos/s | read, MB/s, all | read, Gbit/s, each machine |\n|---|---|---|---|---|"
    )
    for machines, cores in CLUSTERS:
        rate = machines * cores * given.efficiency / given.ms * 1000
        flow = rate * given.read_kb / 1000
        hours = given.photos / rate / 3600
        print(f"| {machines} x {cores} | {hours:.2f} | {rate:.0f} | {flow:.0f} | {flow * 8 / 1000 / machines:.2f} |")
    costs = {
        "cores": core_hours * given.core_hour,
        "requests that read": given.photos * given.reads / 1000 * given.read_thousand,
        "requests that write": given.photos * given.writes / 1000 * given.write_thousand,
        "keeping the masks for a month": written * given.gb_month,
    }
    print("\n| what | cost |\n|---|---|")
    for what, cost in costs.items():
        print(f"| {what} | {cost:.2f} |")
    print(f"| all of it | {sum(costs.values()):.2f} |")
    print(f"| on top, where the machines stand in another region than the photos | {read * given.gb_out:.2f} |")


def main() -> None:
    """Reads the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for title, figures in {"measured": MEASURED, "assumed": ASSUMED, "prices": PRICES}.items():
        group = parser.add_argument_group(title)
        for name, (default, what) in figures.items():
            group.add_argument(f"--{name.replace('_', '-')}", type=float, default=default, help=f"{what} ({default:g})")
    report(parser.parse_args())


if __name__ == "__main__":
    main()
