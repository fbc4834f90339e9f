"""The report of small generated runs: complete, self-contained, safe, and equal to its tables."""

import csv
import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scored_runs import COUNT, IDS, truth_of, write_cases, write_run

from lesionseg import RESEARCH_USE
from lesionseg.data.classes import trimap
from lesionseg.data.images import encode_mask_png, read_mask
from lesionseg.data.trimaps import encode_classes_png
from lesionseg.errors import ComparisonError, ConfigError, OutputError
from lesionseg.evaluation import figures, panels, plots
from lesionseg.evaluation.columns import SCORES
from lesionseg.evaluation.report import render_terminal, write_report

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two runs and their report, for tests that only read it."""
    home = tmp_path_factory.mktemp("two")
    cases = write_cases(home)
    results = [write_run(home / "frozen"), write_run(home / "finetuned", noise=0.15)]
    return results, write_report(results, cases, home / "report")


@pytest.fixture
def cases(tmp_path):
    return write_cases(tmp_path)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """``make("frozen", noise=...)`` writes a run; figures are not drawn, as these tests look at words and numbers."""
    drawn = {figures: ("loss_curves", "overlap_curves", "dice_scatter"), panels: ("sample_panels",)}
    drawn[plots] = ("dice_violins", "calibration_curves", "subgroup_forest")
    for module, names in drawn.items():
        for name in names:
            monkeypatch.setattr(module, name, lambda *_: encode_mask_png(truth_of(0)))

    def one(folder, **options):
        return write_run(tmp_path / "runs" / folder, **options)

    return one


class Page(HTMLParser):
    """Tags with attributes, tables as rows of cell texts, and all visible text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.words, self._stack = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._stack.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "small":
            self.tables[-1][-1][-1] += "|"
        if tag in ("meta", "img", "input"):
            self._stack.pop()

    def handle_endtag(self, tag):
        assert self._stack.pop() == tag

    def handle_data(self, data):
        if self._stack and self._stack[-1] in ("td", "th", "small"):
            self.tables[-1][-1][-1] += data.replace("\u00ad", "")
        if not {"style", "script", "head"} & set(self._stack) and data.strip():
            self.words.append(data.strip())

    def table(self, column):
        return next(table for table in self.tables if column in table[0])


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def four(text):
    return f"{float(text):.4f}"


def test_files(two):
    _, files = two
    assert [path.name for path in files.tables] == [
        *("final_table.csv", "epochs.csv", "per_image.csv", "paired.csv"),
        *("subgroups.csv", "largest_differences.csv", "calibration.csv", "thresholds.csv"),
    ]
    assert [path.name for path in files.figures] == [
        *("loss.png", "dice_iou.png", "paired_dice.png", "violin.png", "calibration.png", "subgroups.png"),
        *("samples_best.png", "samples_median.png", "samples_worst.png"),
    ]
    assert files.documents == (files.html,)
    for path in files.figures:
        with Image.open(path) as image:
            assert image.format == "PNG"
    assert {p.name for p in files.html.parent.glob("[!.]*")} == {
        p.name for p in (files.html, *files.tables, *files.figures)
    }


def test_html_needs_no_other_file(two):
    _, files = two
    text = files.html.read_text(encoding="utf-8")
    page = Page(text)
    sources = [attrs["src"] for _, attrs in page.tags if "src" in attrs]
    # The scatter is drawn in the page, so that its points can be hovered over.
    assert [source.partition(",")[0] for source in sources] == ["data:image/png;base64"] * 8 + [
        "data:image/webp;base64"
    ] * COUNT
    assert all(attrs["href"].startswith("#case-") for _, attrs in page.tags if "href" in attrs)
    assert not {"link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert len(text) < 5_000_000


def test_opens_with_the_answer(two):
    results, files = two
    page = Page(files.html.read_text(encoding="utf-8"))
    difference = results[1].per_image["dice"].mean() - results[0].per_image["dice"].mean()
    paired = next(row for row in read_csv(files.tables[3]) if row["metric"] == "dice")
    assert page.words[2] == (
        f"finetuned scores {difference:.4f} higher in Dice than frozen on 7 test photos "
        f"(95 % interval {four(paired['low'])} to {four(paired['high'])}, Wilcoxon p = 0.016)."
    )
    assert page.tables[0] is page.table("Soft IoU")


def test_research_use_stands_at_top_and_bottom(two):
    words = Page(two[1].html.read_text(encoding="utf-8")).words
    assert words[0] == words[-1] == RESEARCH_USE == "Research use only. Not a medical device."


def test_final_table_equals_csv_and_the_scores(two):
    results, files = two
    table = Page(files.html.read_text(encoding="utf-8")).tables[0]
    rows = read_csv(files.tables[0])
    assert [row[0] for row in table[1:]] == [row["run"] for row in rows] == ["frozen", "finetuned"]
    labels = dict(zip(SCORES, ("Dice", "IoU", *SCORES[2:]), strict=True))
    labels |= {"accuracy": "Accuracy", "sensitivity": "Sensitivity", "specificity": "Specificity"}
    labels |= {"thresholded_iou": "Thresh. IoU", "soft_dice": "Soft Dice", "soft_iou": "Soft IoU"}
    for shown, row, result in zip(table[1:], rows, results, strict=True):
        cells = dict(zip(table[0], shown, strict=True))
        for score, label in labels.items():
            assert float(row[score]) == pytest.approx(result.per_image[score].mean(), abs=1e-12)
            main, _, interval = cells[label].partition("|")
            assert main == four(row[score])
            if score in ("dice", "iou"):
                assert interval == f"{four(row[score + '_low'])}–{four(row[score + '_high'])}"
                assert float(row[f"{score}_low"]) < float(row[score]) < float(row[f"{score}_high"])
        assert cells["Last val. loss"] == four(row["last_val_loss"]) == four(result.history["val_loss"].iloc[-1])
    assert [row[1:6] for row in table[1:]] == [
        ["0 (frozen)", "0.01", "bce", four(rows[0]["last_val_loss"]), "12"],
        ["0.0001", "0.01", "bce", four(rows[1]["last_val_loss"]), "12"],
    ]


def test_epoch_table_equals_csv(two):
    _, files = two
    table = Page(files.html.read_text(encoding="utf-8")).table("Train loss")
    rows = {(row["run"], row["epoch"]): row for row in read_csv(files.tables[1])}
    assert len(rows) == 24
    epoch, seen = "", []
    for shown in table[1:]:
        epoch = shown[0] or epoch
        row = rows[shown[1], epoch]
        names = ("train_loss", "val_loss", "val_iou", "val_dice", "val_soft_iou", "val_soft_dice")
        assert shown[2:] == [four(row[name]) for name in names]
        seen.append((epoch, shown[1]))
    assert seen == [(e, run) for e in ("1", "10", "12") for run in ("frozen", "finetuned")]


def test_a_shorter_run_shows_its_own_last_epoch(make, cases, tmp_path):
    results = [make("long"), make("short", epochs=11)]
    files = write_report(results, cases, tmp_path / "report")
    page = Page(files.html.read_text(encoding="utf-8"))
    assert [row[:2] for row in page.table("Train loss")[5:]] == [["11", "long"], ["", "short"], ["12", "long"]]
    assert page.tables[0][2][5] == "11 of 12"


def test_paired_table_equals_csv(two):
    _, files = two
    table = Page(files.html.read_text(encoding="utf-8")).table("Wilcoxon")
    rows = read_csv(files.tables[3])
    assert [row["metric"] for row in rows] == ["dice", "iou"]
    for shown, row in zip(table[1:], rows, strict=True):
        assert shown[1] == f"{row['run_a']} − {row['run_b']}" == "finetuned − frozen"
        assert float(shown[2]) == float(four(row["mean_difference"])) > 0
        assert shown[-1] == f"{row['wins']} / {row['ties']} / {row['losses']}"
    assert "Holm" not in table[0]


def test_per_image_csv_keeps_every_number(two):
    results, files = two
    rows = read_csv(files.tables[2])
    assert len(rows) == 2 * COUNT
    expected = [(r.name, float(d)) for r in results for d in r.per_image["dice"]]
    assert [(row["run"], float(row["dice"])) for row in rows] == expected


def test_parameters_and_provenance(two):
    page = Page(two[1].html.read_text(encoding="utf-8"))
    assert page.table("Trainable")[1] == ["frozen", "3,818,186", "1,591,314", "2,226,872", "2,223,872", "1,594,314"]
    facts = {row[0]: row[1:] for row in page.tables[-1][1:]}
    assert facts["config.optim.encoder_lr"] == ["0", "0.0001"]
    assert facts["versions.torch"] == ["2.9", "2.9"]
    assert facts["evaluation.model_sha256"] == ["m" * 64] * 2
    assert facts["encoder_weights.sha256"] == ["e" * 64] * 2
    bold = [attrs["class"] for tag, attrs in page.tags if tag == "tr" and "differs" in attrs.get("class", "")]
    assert len(bold) == 1


def test_same_input_same_bytes(make, cases, tmp_path):
    results = [make("frozen"), make("finetuned", noise=0.15)]
    first, again = (write_report(results, cases, tmp_path / name) for name in ("first", "again"))
    assert again.html.read_bytes() == first.html.read_bytes()


@pytest.mark.parametrize(("manifest", "shown"), [("isic2016", True), ("toy", False)])
def test_published_figures_only_for_their_data(make, cases, tmp_path, manifest, shown):
    files = write_report([make("frozen", manifest=manifest)], cases, tmp_path / "report")
    page = Page(files.html.read_text(encoding="utf-8"))
    rows = [row for row in page.tables[0] if row[0].startswith("published")]
    assert bool(rows) == shown
    assert any("original ISIC MobileNet encoder study" in words for words in page.words) == shown
    if shown:
        assert [row[-2:] for row in rows] == [["0.7641", "0.6454"], ["0.8295", "0.7239"]]
        assert {cell for row in rows for cell in row[1:-2]} == {"–"}
    assert len(read_csv(files.tables[0])) == 1


def test_no_published_figures_beside_scores_on_other_photos(make, cases, tmp_path):
    run = make("frozen", manifest="isic2016")
    elsewhere = replace(run, summary={**run.summary, "manifest_sha256": "0" * 64})
    for result, shown in ((run, True), (elsewhere, False)):
        page = Page(write_report([result], cases, tmp_path / f"{shown}").html.read_text(encoding="utf-8"))
        assert any(row[0].startswith("published") for row in page.tables[0]) == shown


def test_one_run(make, cases, tmp_path):
    result = make("frozen")
    files = write_report([result], cases, tmp_path / "report")
    page = Page(files.html.read_text(encoding="utf-8"))
    assert page.words[2].startswith(
        f"frozen reaches a mean Dice of {result.per_image['dice'].mean():.4f} on 7 test photos"
    )
    assert read_csv(files.tables[3]) == []
    assert "paired_dice.png" not in [path.name for path in files.figures]
    assert not any("Wilcoxon" in table[0] for table in page.tables)


def test_three_runs_are_corrected(make, cases, tmp_path):
    results = [make("a", noise=0.4), make("b", noise=0.1), make("c", noise=0.25)]
    files = write_report(results, cases, tmp_path / "report")
    table = Page(files.html.read_text(encoding="utf-8")).table("Holm")
    assert [row[1] for row in table[1:4]] == ["b − c", "b − a", "c − a"]
    assert len(table) == 7
    p_values = [(float(row["p_value"]), float(row["p_holm"])) for row in read_csv(files.tables[3])]
    assert all(raw <= corrected for raw, corrected in p_values)
    assert any(raw < corrected for raw, corrected in p_values)


def test_groups_are_resampled_whole(make, cases, tmp_path):
    alone, together = make("alone"), make("together", group="patient 1")
    files = [write_report([run], cases, tmp_path / run.name) for run in (alone, together)]
    texts = [" ".join(Page(file.html.read_text(encoding="utf-8")).words) for file in files]
    assert ["whole groups" in text for text in texts] == [False, True]
    row = read_csv(files[1].tables[0])[0]
    assert float(row["dice_low"]) == pytest.approx(float(row["dice"]))


def test_no_file_of_an_earlier_report_stays(make, cases, tmp_path):
    write_report([make("a"), make("b", noise=0.1)], cases, tmp_path / "report", formats=("html", "md", "latex"))
    (tmp_path / "report" / "notes.txt").write_text("mine")
    files = write_report([make("c")], cases, tmp_path / "report")
    made = {path.name for path in (*files.documents, *files.tables, *files.figures)}
    assert {path.name for path in (tmp_path / "report").glob("[!.]*")} == made | {"notes.txt"}
    assert "paired_dice.png" not in made


def test_the_page_says_at_which_size_masks_were_compared(make, cases, tmp_path):
    run = make("a")
    small = replace(run, summary={**run.summary, "size": [128, 160]})
    for result, told in ((run, "at each photo's own size"), (small, "at the model's input size, 128 x 160 pixels")):
        files = write_report([result], cases, tmp_path / told[:12], formats=("html", "md"))
        for document in files.documents:
            text = " ".join(document.read_text(encoding="utf-8").replace("&#39;", "'").split())
            assert told in text


def test_masks_of_classes_are_shown(make, cases, tmp_path):
    run = make("a")
    classes = {"skin": "#000000", "border": "#808080", "lesion": "#ffffff"}
    info = {**run.info, "config": {**run.info["config"], "data": {**run.info["config"]["data"], "classes": classes}}}
    coloured = {}
    for case_id, case in cases.items():
        path = tmp_path / f"{len(coloured)}.png"
        path.write_bytes(encode_classes_png(trimap(read_mask(case.mask), 1), tuple(classes.values())))
        coloured[case_id] = replace(case, mask=path)
    files = write_report([replace(run, info=info)], coloured, tmp_path / "report")
    assert any(figure.name.startswith("samples_") for figure in files.figures)


def test_hostile_names_are_only_text(make, cases, tmp_path):
    labels = {"site": "=cmd()", "note": "@SUM(A1)", "shift": "-1.5", "@head": "+1+1", "minus": "-cmd()", "tab": "\t=1"}
    labels["return"] = "\r=1"
    results = [make("evil", name=HOSTILE, labels=labels), make("formula", name="=HYPERLINK(1)", noise=0.1)]
    files = write_report(results, cases, tmp_path / "report")
    text = files.html.read_text(encoding="utf-8")
    page = Page(text)
    assert HOSTILE not in text
    assert "<b>" not in text
    assert page.tables[0][1][0] == HOSTILE
    assert any("<b>bold" in words for words in page.words)
    assert [tag for tag, _ in page.tags if tag in ("script", "b")] == ["script"]
    rows = read_csv(files.tables[2])
    evil = [row for row in rows if row["run"] == HOSTILE]
    assert len(evil) == COUNT
    names = ("site", "note", "shift", "'@head", "minus", "tab", "return")
    assert {tuple(row[name] for name in names) for row in evil} == {
        ("'=cmd()", "'@SUM(A1)", "-1.5", "'+1+1", "'-cmd()", "'\t=1", "\\r=1")
    }
    assert {row["run"] for row in rows} == {HOSTILE, "'=HYPERLINK(1)"}
    assert {row["run_a"] for row in read_csv(files.tables[3])} == {"'=HYPERLINK(1)"}


def test_negative_numbers_stay_numbers(make, cases, tmp_path):
    files = write_report([make("a"), make("b", seed=1)], cases, tmp_path / "report")
    low = read_csv(files.tables[3])[0]["low"]
    assert low.startswith("-")
    assert float(low) < 0


def test_runs_on_different_cases_are_refused_by_name(make, cases, tmp_path):
    numbered = dict(enumerate(IDS))
    few = {index: numbered[index] for index in range(5)}
    others = {index: numbered[index] for index in range(2, COUNT)}
    results = [make("few", ids=few), make("others", ids=others)]
    for attempt in (lambda: write_report(results, cases, tmp_path / "report"), lambda: render_terminal(results)):
        with pytest.raises(ComparisonError) as caught:
            attempt()
        assert caught.value.problems == (
            "few: lacks cases that others have, 2: ISIC_0000005, ISIC_0000006",
            "others: lacks cases that others have, 2: <b>bold, ISIC_0000001",
        )
    assert not (tmp_path / "report").exists()


def test_nothing_to_compare(cases, tmp_path):
    with pytest.raises(ComparisonError, match="no runs"):
        write_report([], cases, tmp_path / "report")
    with pytest.raises(ComparisonError, match="no runs"):
        render_terminal([])


def test_the_same_run_twice(two, cases, tmp_path):
    results, _ = two
    with pytest.raises(ComparisonError, match=r"same name:\n  - frozen: .*\n  - frozen: "):
        write_report([results[0], results[0]], cases, tmp_path / "other")


def test_cases_that_the_manifest_lacks(two, cases, tmp_path):
    results, _ = two
    del cases["ISIC_0000002"], cases["ISIC_0000004"]
    with pytest.raises(ComparisonError, match="not in the manifest, 2: ISIC_0000002, ISIC_0000004"):
        write_report(results, cases, tmp_path / "other")


def test_output_must_be_a_folder(two, cases, tmp_path):
    results, _ = two
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(OutputError, match=r"report\.html is a file, not a folder"):
        write_report(results, cases, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == "mine"


def test_formats(make, cases, tmp_path):
    results = [make("frozen"), make("fine_tuned", noise=0.15)]
    files = write_report(results, cases, tmp_path / "papers", formats=["md", "latex", "csv"])
    assert [path.name for path in files.documents] == ["report.md", "report.tex"]
    assert files.html is None
    markdown, latex = (path.read_text(encoding="utf-8") for path in files.documents)
    row = read_csv(files.tables[0])[1]
    assert f"{four(row['dice'])} ({four(row['dice_low'])}–{four(row['dice_high'])})" in markdown
    assert f"{four(row['dice'])} ({four(row['dice_low'])}--{four(row['dice_high'])})" in latex
    assert r"fine\_tuned" in markdown
    for figure in files.figures:
        assert f"({figure.name})" in markdown
        assert f"{{{figure.name}}}" in latex
    bare = write_report(results, cases, tmp_path / "bare", formats=["csv"])
    assert (bare.documents, bare.figures) == ((), ())
    with pytest.raises(ConfigError, match="no report format docx"):
        write_report(results, cases, tmp_path / "x", formats=["docx"])


def test_a_large_comparison_stays_small():
    # The page holds a choice of very many cases, and the worst of them all.
    from lesionseg.evaluation.gallery import _choose

    chosen = _choose(np.arange(10_000), 300)
    assert len(chosen) == len(set(chosen)) == 300
    assert chosen[:150].tolist() == list(range(150))
    assert chosen[-1] == 9999
    assert _choose(np.arange(7), 300).tolist() == list(range(7))


def rendered(results, width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(render_terminal(results))
    return console.file.getvalue()


def test_terminal_shows_the_same_numbers(two):
    results, files = two
    text = rendered(results, 120)
    for row in read_csv(files.tables[0]):
        for score in SCORES:
            assert four(row[score]) in text
        assert f"{four(row['dice_low'])} – {four(row['dice_high'])}" in text
    for row in read_csv(files.tables[1]):
        if row["epoch"] in ("1", "10", "12"):
            assert four(row["val_soft_dice"]) in text
    assert text.startswith("finetuned scores ")
    assert text.rstrip().endswith(RESEARCH_USE)


def test_terminal_never_cuts_a_number(make):
    results = [make(f"a-rather-long-name-{i}", noise=0.1 + 0.05 * i) for i in range(5)]
    text = rendered(results, 80)
    assert "…" not in text
    for result in results:
        assert f"{result.per_image['soft_iou'].mean():.4f}" in text


def test_terminal_takes_names_as_text(make):
    text = rendered([make("markup", name="[red]x[/red]"), make("escape", name="a\x1b[2Jb", noise=0.1)], 120)
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
