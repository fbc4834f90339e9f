"""How long the audit of the real ISIC pairs takes, and whether it finds what is known to be wrong with them.

    python benchmarks/audit.py DATA_ROOT

DATA_ROOT holds ``isic2016`` and ``isic2018-extra``, as the challenges' archives unpack.
"""

import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from lesionseg.data.audit import Audit, audit, examine_cases
from lesionseg.data.audit_report import write_audit
from lesionseg.data.manifest import read_manifest, write_manifest
from lesionseg.records import Case

BROKEN = "ISIC_0015251"
PAIR = {"ISIC_0012290", "ISIC_0013594"}
CORES = 2


def manifest_of(data: Path, output: Path) -> Path:
    """One manifest of the official ISIC 2016 pairs and the further ones of ISIC 2018."""
    cases = list(read_manifest("isic2016", data / "isic2016").cases)
    extra = data / "isic2018-extra"
    photos = sorted((extra / "ISIC2018_Task1-2_Training_Input").glob("*.jpg"))
    masks = extra / "ISIC2018_Task1_Training_GroundTruth"
    cases += [Case(path.stem, path, masks / f"{path.stem}_segmentation.png", "isic2018-extra") for path in photos]
    write_manifest(cases, output / "all.csv", data)
    return output / "all.csv"


def run(manifest: Path, output: Path) -> Audit:
    """The audit as the command does it, step by step, with its times."""
    times = [(time.perf_counter(), os.times())]
    looks = examine_cases(read_manifest(manifest).cases)
    times.append((time.perf_counter(), os.times()))
    result = audit(looks)
    times.append((time.perf_counter(), os.times()))
    write_audit(result, output, "ISIC 2016 and 2018")
    times.append((time.perf_counter(), os.times()))
    for name, start, end in (
        ("examining", times[0], times[1]),
        ("comparing", times[1], times[2]),
        ("writing", times[2], times[3]),
        ("in all", times[0], times[3]),
    ):
        cpu = end[1].user + end[1].system - start[1].user - start[1].system
        wall = end[0] - start[0]
        print(f"{name:10} {wall:6.1f} s wall, {cpu:6.1f} s CPU, {cpu / CORES:5.1f} s on {CORES} free cores")
    return result


def main() -> None:
    """Prints times, memory, findings per kind and the two known finds."""
    data, output = Path(sys.argv[1]).resolve(), Path(sys.argv[2] if len(sys.argv) > 2 else "audit-benchmark")
    result = run(manifest_of(data, output), output)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    print(f"{len(result.findings)} findings in {result.fingerprint.cases} cases")
    for (severity, kind), count in Counter((f.severity.value, f.kind) for f in result.findings).items():
        print(f"  {severity:8} {kind:16} {count}")
    misfits = {case_id for finding in result.findings if finding.kind == "misfit" for case_id in finding.case_ids}
    pairs = [finding for finding in result.findings if set(finding.case_ids) == PAIR]
    print(f"{BROKEN}, mask unrelated to its photo: {'found' if BROKEN in misfits else 'NOT FOUND'}")
    print(f"{' / '.join(sorted(PAIR))}, one photo: {pairs[0].message if pairs else 'NOT FOUND'}")
    sys.exit(0 if BROKEN in misfits and pairs else 1)


if __name__ == "__main__":
    main()
