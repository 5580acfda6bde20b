"""Text as data: a source whose truth is known, windows of passages, causal models, and runs on them from start to end."""

import dataclasses
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import adakd
from adakd._hash import hashed
from adakd.cli import main
from adakd.data import (
    Language,
    TokenData,
    Tokens,
    identity_of,
    load_data,
    load_pydoc,
    load_sentences,
    load_text,
    text_data,
    usual,
)
from adakd.models import GRU, Transformer, create_model
from adakd.models.language import LANGUAGE_MODELS
from adakd.statistics import paired_interval
from adakd.study import NATS, format_lines, gradient_norm, read_records, summarize
from adakd.training import Recipe, choose_precision, get_recipe, measure_model, student_views

FP32 = choose_precision("fp32", torch.device("cpu"), 0)
RECORDS = Path(__file__).parents[1] / "book" / "records" / "language"


@pytest.fixture(scope="module")
def small():
    """64 training and 8 test passages of a language with two plausible continuations."""
    return load_sentences(2, words=12, kinds=2, train_words=1024, test_words=128, window=8)


# ---- the known language ----


def independent(language):
    """p(x | kind, b), by loops over words and plain Python's numbers."""
    words = language.words
    zipf = [1 / (x + 1) for x in range(words)]
    table = {}
    for kind in range(language.kinds):
        for b in range(words):
            context = kind * words + b
            number = int(hashed(22, language.seed, 0, torch.tensor(context))) % len(language.plausible)
            u = [
                int(hashed(23, language.seed, context, torch.tensor(x))) / 2**32 + 2**-33 for x in range(words)
            ]
            clock = sorted(range(words), key=lambda x: -math.log(u[x]) * sum(zipf) / zipf[x])
            chosen = clock[: language.plausible[number]]
            w = {x: 1 + int(hashed(24, language.seed, context, torch.tensor(x))) / 2**32 for x in chosen}
            table[kind, b] = [
                (1 - language.noise) * w.get(x, 0) / sum(w.values()) + language.noise * zipf[x] / sum(zipf)
                for x in range(words)
            ]
    return table


def test_its_truth_is_what_is_written():
    language = Language(words=10, plausible=(1, 3, 7), kinds=3, seed=5)
    table, kind = independent(language), language.kind.tolist()
    tokens = language.generate(200, seed=9)
    found = language.log_probabilities(tokens).exp()
    for t in range(1, 200):
        expected = torch.tensor(table[kind[tokens[t - 1]], int(tokens[t])], dtype=torch.float64)
        torch.testing.assert_close(found[t], expected, rtol=1e-12, atol=0)
    assert sorted(set(language.plausible_after(tokens)[1:].tolist())) == [1, 3, 7]


@pytest.mark.parametrize("plausible", [1, 5, (1, 2, 4, 8, 16, 32)])
def test_every_distribution_sums_to_one(plausible):
    language = Language(plausible=plausible)
    sums = language.table.sum(dim=1)
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-13)
    assert language.table.min() > 0


def test_at_a_windows_first_word_the_truth_is_the_mean_over_what_may_have_been_before():
    """Held against counts: of words that stand alone in a window, what followed in an endless text."""
    language = Language(words=5, plausible=(1, 2), kinds=2, noise=0.2)
    text = language.generate(200_000)
    pairs = torch.bincount(text[:-1] * 5 + text[1:], minlength=25).view(5, 5).double()
    found = language.log_probabilities(torch.arange(5).view(5, 1)).exp().squeeze(1)
    torch.testing.assert_close(found, pairs / pairs.sum(dim=1, keepdim=True), rtol=0, atol=0.01)


@pytest.mark.parametrize("plausible", [1, 4, (1, 2, 4, 8, 16, 32)])
def test_the_known_entropy_is_the_empirical_one(plausible):
    language = Language(plausible=plausible)
    text = language.generate(300_000, seed=3)
    following = language.log_probabilities(text[:-1]).gather(1, text[1:, None])[1:]
    assert -following.mean().item() == pytest.approx(language.entropy, rel=0.01)
    assert language.entropy_after(text)[1:].mean().item() == pytest.approx(language.entropy, rel=0.01)


def test_more_plausible_continuations_are_more_entropy_and_words_are_frequent_by_zipf():
    entropies = [Language(plausible=k).entropy for k in (1, 2, 4, 8, 16, 32, 64)]
    assert entropies == sorted(entropies)
    text = Language().generate(50_000)
    counts = text.bincount(minlength=64).double()
    assert counts[:8].sum() > 4 * counts[-8:].sum()


def test_a_language_and_its_text_are_the_same_everywhere():
    data = load_sentences(4, train_words=256, test_words=128)
    assert data.checksum == "f2c02546f241aa354348b6445b17e41ef74e46f4a09ba0a3348996721acc3a83"
    again, other = (
        load_sentences(4, train_words=256, test_words=128),
        load_sentences(4, seed=1, train_words=256),
    )
    assert again.checksum == data.checksum != other.checksum
    assert torch.equal(again.train.stream, data.train.stream)
    assert not torch.equal(data.train.stream[:128], data.test.stream)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"plausible": 65}, "plausible: expected one or several integers from 1 to 64"),
        ({"plausible": ()}, "plausible: expected one or several"),
        ({"plausible": 2.5}, "plausible: expected one or several"),
        ({"words": 2}, "words: expected an integer from 3"),
        ({"kinds": 0}, "kinds: expected an integer from 1"),
        ({"words": 512, "kinds": 16}, "words · kinds of at most 4096"),
        ({"noise": 0.0}, "noise: expected a number between 0 and 1"),
    ],
)
def test_settings_of_no_language_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Language(**settings)


# ---- passages and windows ----


def test_a_window_is_a_pure_function_of_seed_epoch_and_passage(small):
    whole, part = small.views(3), small.views(3, subset=torch.tensor([9, 4]))
    shown = {
        int(index): tokens
        for step in whole.steps(2, 16)
        for index, tokens in zip(step.index, step.images, strict=True)
    }
    for step in part.steps(2, 1):
        assert torch.equal(step.images[0], shown[int(part.index[step.index])])
    windows = torch.cat([step.images for step in small.views(4).steps(2, 16)])
    assert not torch.equal(torch.cat([step.images for step in whole.steps(2, 16)]), windows)


def test_labels_are_what_follows_and_passages_share_nothing(small):
    passages = small.train.passages
    assert passages.shape == (64, 16)
    for epoch in (1, 2, 3):
        for step in small.views(0).steps(epoch, 16):
            assert torch.equal(step.images[:, 1:], step.labels[:, :-1])
            start = step.slots % small.window
            for index, view, tokens, labels in zip(step.index, start, step.images, step.labels, strict=True):
                seen = passages[index, view : view + small.window + 1]
                assert torch.equal(torch.cat([tokens, labels[-1:]]), seen)  # no token of another passage


def test_a_place_shows_what_the_step_showed(small):
    step = next(small.views(7, limit=3).steps(5, 10))
    assert torch.equal(small.views(7).at(step.slots), step.images)


def test_parts_are_nested_and_what_is_held_out_is_not_among_them(small):
    held = small.held_out(8)
    few, more = small.subset(10, 0, held), small.subset(20, 0, held)
    assert set(few.tolist()) < set(more.tolist())
    assert not set(more.tolist()) & set(held.tolist())
    assert torch.equal(small.tested_on(held).test.passages, small.train.passages[held])
    assert not torch.equal(few, small.subset(10, 1, held))
    with pytest.raises(ValueError, match="train_images: expected 1 to 56"):
        small.subset(57, 0, held)


def test_measures_are_those_of_an_independent_sum(small):
    torch.manual_seed(0)
    model = create_model("gru16", small.num_classes).eval()
    found = measure_model(model, small, FP32)
    tokens, following = next(small.test_batches())
    with torch.no_grad():
        q = model(tokens).double().softmax(-1).numpy()
    p = small.truth.log_probabilities(tokens).exp().numpy()
    ones = np.eye(small.num_classes)[following.numpy()]
    assert found["nats"] == pytest.approx(-np.log((q * ones).sum(-1)).mean(), rel=1e-6)
    assert found["kl_to_truth"] == pytest.approx((p * np.log(p / q)).sum(-1).mean(), rel=1e-6)
    assert found["accuracy"] == pytest.approx(100 * (q.argmax(-1) == following.numpy()).mean())


def test_nobody_is_nearer_to_the_truth_than_the_truth(small):
    found = small.measure(small.truth.log_probabilities)
    assert found["kl_to_truth"] == pytest.approx(0, abs=1e-12)
    assert small.measure(lambda x: small.truth.log_probabilities(x) / 2)["kl_to_truth"] > 0.01


def test_another_character_is_refused_with_its_place():
    data = text_data("mine", "abc " * 100, window=8)
    assert data.decode(data.encode("cab")) == "cab"
    with pytest.raises(ValueError, match="'é' at place 2 is not among the 4 tokens of mine"):
        data.encode("caé")


@pytest.mark.parametrize(
    ("stream", "window", "message"),
    [
        (torch.zeros(31), 8, "expected int64 of shape"),
        (torch.zeros(2, 40, dtype=torch.int64), 8, "expected int64 of shape"),
        (
            torch.zeros(15, dtype=torch.int64),
            8,
            "at least 16 tokens .*got 15; give more text, or a smaller window",
        ),
        (torch.full((40,), -1), 8, "tokens from 0 on, got -1"),
        (torch.zeros(40, dtype=torch.int64), 1, "window: expected an integer of at least 2"),
    ],
)
def test_what_is_no_stream_of_tokens_is_refused(stream, window, message):
    with pytest.raises(ValueError, match=message):
        Tokens(stream, window)


def of_ones_own(cut=900, vocabulary=("a", "b", "c"), name="mine"):
    stream = torch.arange(1000) % 3
    return TokenData(name, Tokens(stream[:cut], 8), Tokens(stream[cut:], 8), vocabulary=vocabulary)


def test_a_checksum_is_of_where_a_text_is_cut_and_a_word_ends():
    checksums = {of_ones_own(cut).checksum for cut in (500, 899, 900, 901, 941)}
    assert len(checksums) == 5
    words = [("a", "b\0c", "d"), ("a\0b", "c", "d"), ("a", "b", "c\0d")]
    assert len({of_ones_own(vocabulary=each).checksum for each in words}) == 3
    data = of_ones_own()
    other = dataclasses.replace(data, train=data.test)
    assert other.checksum == dataclasses.replace(other).checksum != data.checksum
    assert dataclasses.replace(data, checksum="c").checksum == "c"
    assert identity_of(data) == {"name": "mine", "sha256": data.checksum}


def test_a_text_of_the_package_has_the_checksum_of_its_records():
    """That of window, vocabulary and streams, one after another."""
    stem = "3afd7f3bd0803c1cb17a395deda3904aea23c8d1a6d29e665102f9897f1fcda8"
    assert load_sentences().checksum == stem
    for data in (load_text(__file__), of_ones_own(), load_sentences(words=32, train_words=900, test_words=80)):
        digest = hashlib.sha256(f"{data.window}\0{chr(0).join(data.vocabulary)}\0".encode())
        for split in (data.train, data.test):
            digest.update(split.stream.numpy().tobytes())
        assert data.checksum == digest.hexdigest()


def test_tokens_without_a_name_are_refused():
    stream = torch.arange(40) % 4
    with pytest.raises(ValueError, match="expected tokens from 0 to 2, for 3 have names, got 3"):
        TokenData("mine", Tokens(stream, 8), Tokens(stream, 8), ("a", "b", "c"))
    with pytest.raises(ValueError, match="windows of 8 as in train, got 4"):
        TokenData("mine", Tokens(stream, 8), Tokens(stream, 4), tuple("abcd"))


# ---- text of one's own ----


def test_pydoc_is_english_of_every_python():
    data = load_pydoc()
    assert len(data.train.stream) > 300_000
    assert 60 < data.num_classes < 200
    assert len(data.checksum) == 64
    assert data.checksum == load_data("pydoc").checksum
    assert "Python" in data.decode(data.train.stream)


def test_a_file_is_named_by_its_text(tmp_path):
    one, two = tmp_path / "my text.txt", tmp_path / "other" / "my text.txt"
    two.parent.mkdir()
    one.write_text("to be or not to be, " * 100)
    two.write_text("that is the question " * 100)
    data = load_data(f"text:{one}")
    assert data.name.startswith("text-my-text-")
    assert data.name != load_text(two).name
    assert len(data.train.stream) + len(data.test.stream) == 2000
    assert usual(f"text:{one}") == TokenData.usual


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "at least 3 different characters, got 0"),
        (b"ab" * 1000, "at least 3 different characters, got 2"),
        (b"short text", "at least 1280 characters .*got 10; give more text, or a smaller window"),
        (b"\xff\xfe\x00" * 1000, "no text in UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(content, message, tmp_path, capsys):
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_text(path)
    assert main(["teacher", "--data", f"text:{path}", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"adakd: {path}")
    with pytest.raises(FileNotFoundError, match="no text file"):
        load_data(f"text:{tmp_path / 'none'}")


def test_a_byte_order_mark_is_no_character(tmp_path):
    content = "to be or not to be, " * 100
    plain, marked = tmp_path / "a" / "text.txt", tmp_path / "b" / "text.txt"
    for path, encoding in ((plain, "utf-8"), (marked, "utf-8-sig")):
        path.parent.mkdir()
        path.write_text(content, encoding=encoding)
    assert load_text(marked).num_classes == load_text(plain).num_classes
    assert load_text(marked).name == load_text(plain).name
    assert load_text(marked).checksum == load_text(plain).checksum


@pytest.mark.parametrize("command", [["distill"], ["compare", "--methods", "kd", "--seeds", "0"], ["cache"]])
def test_a_missing_teacher_of_a_text_is_trained_by_what_was_typed(command, tmp_path, capsys):
    path = tmp_path / "my text.txt"
    path.write_text("to be or not to be, " * 100)
    assert main([*command, "--data", f"text:{path}", "--out", str(tmp_path), "--device", "cpu", "--quiet"]) == 1
    wanted = f"Train it first: adakd teacher --model {TokenData.usual.teacher} --data 'text:{path}'; or name"
    assert wanted in capsys.readouterr().err


def test_a_missing_teacher_of_data_without_a_name_is_trained_in_python(tmp_path):
    data = text_data("mine", "to be or not to be, " * 100)
    with pytest.raises(
        adakd.TeacherError, match=r"Train it first: adakd.train_teacher\('gru64', data\); or name"
    ):
        adakd.distill("gru64", "gru16", "kd", data, out=tmp_path, device="cpu", progress=False)


def test_a_run_on_tokens_is_not_exported_whatever_its_data(tmp_path):
    data = text_data("mine", "to be or not to be, " * 100)
    run = adakd.train_teacher("gru16", data, out=tmp_path, device="cpu", progress=False, epochs=1)
    for options in ({}, {"data": data}):
        with pytest.raises(
            ValueError, match=r"^export is for images, and the network in .* reads tokens \(mine\)"
        ):
            adakd.export_network(run, tmp_path / "run.pt2", normalize=True, **options)
    assert main(["export", str(run.folder), "--to", str(tmp_path / "run.pt2")]) == 1
    assert not list(tmp_path.glob("*.pt2"))


# ---- models ----


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_no_row_reads_what_comes_later(name):
    torch.manual_seed(0)
    model = create_model(name, 11).eval()
    tokens = torch.randint(11, (2, 9))
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 11
    with torch.no_grad():
        one, other = model(tokens), model(changed)
    assert one.shape == (2, 9, 11)
    assert torch.equal(one[:, :6], other[:, :6])
    assert (one[:, 6:] != other[:, 6:]).any()


def test_a_student_has_a_tenth_of_its_teachers_parameters():
    names = TokenData.usual
    teacher, student = (
        sum(p.numel() for p in create_model(name, 64).parameters()) for name in (names.teacher, names.student)
    )
    assert 2e5 < teacher < 1e6
    assert 8 < teacher / student < 20


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="multiple of 16"):
        Transformer(5, 1, 24)
    with pytest.raises(ValueError, match="at most 4 at once, got 5; make it with positions=5"):
        Transformer(5, 1, 16, positions=4)(torch.zeros(1, 5, dtype=torch.int64))
    assert GRU(5, 7)(torch.zeros(1, 3, dtype=torch.int64)).shape == (1, 3, 5)


# ---- runs ----


def test_adamw_is_in_the_record_and_sgd_leaves_it_as_it_was():
    assert "algorithm" not in get_recipe("demo").describe()
    recipe = get_recipe("language")
    assert recipe.describe()["algorithm"] == "adamw"
    assert isinstance(recipe.optimizer([torch.nn.Parameter(torch.ones(1))]), torch.optim.AdamW)
    with pytest.raises(ValueError, match="algorithm: expected 'sgd' or 'adamw', got 'adam'"):
        Recipe("mine", 1, algorithm="adam")


QUICK = {"recipe": "language", "progress": False, "device": "cpu", "batch_size": 8, "eval_every": 1}


@pytest.fixture(scope="module")
def teacher(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("text")
    return adakd.train_teacher("gru16", small, out=out, epochs=12, lr=0.02, **QUICK)


def test_training_brings_the_teacher_nearer_to_the_truth(teacher, small):
    apart = [row["test_kl_to_truth"] for row in teacher.history]
    assert apart[-1] < 0.5 * apart[0]
    result = teacher.record["result"]
    assert result["kl_to_truth"] == apart[-1]
    assert result["nats"] == teacher.history[-1]["test_nats"]
    assert teacher.record["data"]["entropy"] == small.truth.entropy
    found = adakd.api.measurements(teacher, data=small)
    assert found == pytest.approx(
        {"accuracy": teacher.accuracy, **{k: result[k] for k in ("nats", "kl_to_truth")}}
    )


def student_of(teacher, small, out, **options):
    options = {"epochs": 3, "train_images": 24, "student": "gru16", "data": small, **QUICK, **options}
    return adakd.distill(teacher=teacher, out=out, **options)


def weights(run):
    return run.model().state_dict()


def test_a_run_that_was_stopped_goes_on_exactly(teacher, small, tmp_path):
    whole = student_of(teacher, small, tmp_path / "whole", method="kd+adakd")
    for after in (2, 4):
        steps = iter(range(after))
        with pytest.raises(adakd.Interrupted):
            student_of(
                teacher,
                small,
                tmp_path / "cut",
                method="kd+adakd",
                should_stop=lambda s=steps: next(s, None) is None,
            )
    cut = student_of(teacher, small, tmp_path / "cut", method="kd+adakd")
    assert len(cut.record["sessions"]) == 3
    assert cut.history == whole.history
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(cut)[name]), name


def test_a_cache_says_what_the_live_teacher_says(teacher, small, tmp_path):
    cached = student_of(teacher, small, tmp_path, cache="fp32")
    live = student_of(teacher, small, tmp_path, cache=None)
    assert cached.folder != live.folder
    for name, tensor in weights(live).items():
        torch.testing.assert_close(tensor, weights(cached)[name], rtol=1e-3, atol=1e-4)


def test_pushes_of_rows_are_those_of_flat_rows():
    torch.manual_seed(0)
    s, t, y = torch.randn(3, 4, 7), torch.randn(3, 4, 7), torch.randint(7, (3, 4))
    criterion = adakd.create_method("kd")
    assert gradient_norm(criterion, s, t, y) == gradient_norm(
        criterion, s.flatten(0, 1), t.flatten(0, 1), y.flatten()
    )


def test_a_comparison_is_by_nats(teacher, small, tmp_path):
    runs = adakd.compare(
        ["ce", "kd"], (0, 1), teacher, "gru16", small, out=tmp_path, epochs=1, train_images=24, **QUICK
    )
    ce, kd = summarize(runs)
    assert ce.measure == kd.measure == NATS
    by_method = {
        m: [r.record["result"]["nats"] for r in runs if r.record["config"]["method"] == m] for m in ("ce", "kd")
    }
    ahead = np.mean(by_method["ce"]) - np.mean(by_method["kd"])  # fewer nats are ahead
    assert kd.ahead["ce"].estimate == pytest.approx(ahead)
    assert (kd.rank < ce.rank) == (ahead > 0)
    head = format_lines([ce, kd]).splitlines()[0]
    assert head.split("  ")[-1].strip() == "ahead of ce"
    assert "nats a token" in head
    assert "KL to the truth" in head


def test_a_study_chooses_weights_by_nats(teacher, small, tmp_path):
    study = adakd.study.Study(("ce", "kd"), seeds=(0,), grid=(0.5, 2.0), ways=("chosen",))
    adakd.study.run_study(
        study,
        tmp_path / "study",
        teacher=teacher,
        student="gru16",
        data=small,
        out=tmp_path,
        epochs=1,
        train_images=24,
        validation_images=8,
        **QUICK,
    )
    plan = json.loads((tmp_path / "study" / "study.json").read_text())
    grid = plan["chosen"]["kd"]["grid"]
    best = min(grid, key=lambda row: row["validation_nats"])
    assert plan["chosen"]["kd"]["kd_weight"] == best["kd_weight"]
    lines = adakd.study.read_study(tmp_path / "study").table("chosen", ("kd",))
    assert {line.name for line in lines} <= {"ce", "kd"}


def test_a_network_that_reads_something_else_is_refused(small, tiny_data, teacher, tmp_path):
    with pytest.raises(ValueError, match=r"'resnet8' reads images, and .* holds tokens"):
        adakd.train_teacher("resnet8", small, out=tmp_path)
    with pytest.raises(ValueError, match="'gru16' reads tokens, and gratings holds images"):
        adakd.train_teacher("gru16", tiny_data, out=tmp_path)
    with pytest.raises(ValueError, match="reads features as those of images are"):
        student_of(teacher, small, tmp_path, method="crd")
    with pytest.raises(ValueError, match="export is for images"):
        adakd.export_network(teacher, tmp_path / "x.pt2", small)


def test_the_commands_from_start_to_end(tmp_path, capsys):
    """On a file of one's own: a teacher, students, their table, and what is measured again."""
    text = tmp_path / "tale.txt"
    text.write_text("the cat sat on the mat, and the rat sat on the cat. " * 60)
    common = ["--data", f"text:{text}", "--out", str(tmp_path / "runs"), "--epochs", "2", "--quiet"]
    assert main(["teacher", "--model", "gru32", *common]) == 0
    assert "nats a token" in capsys.readouterr().out
    records = tmp_path / "records.jsonl"
    students = ["--teacher", "gru32", "--student", "gru16", "--train-images", "all", *common]
    assert main(["compare", "--methods", "ce", "kd", "--seeds", "0", "--records", str(records), *students]) == 0
    assert main(["table", str(records), "--to", "ce"]) == 0
    assert "passages × 2 epochs" in capsys.readouterr().out
    (run,) = (tmp_path / "runs").glob("text-tale-*/gru16/kd-*")
    assert main(["evaluate", str(run)]) == 1
    assert "--data text:PATH" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--data", f"text:{text}", "--device", "cpu"]) == 0
    recorded = json.loads((run / "record.json").read_text())["result"]["nats"]
    assert f"{recorded:.4f} nats a token" in capsys.readouterr().out


def test_a_part_is_not_larger_than_a_text_of_ones_own(tmp_path):
    text = tmp_path / "tale.txt"
    text.write_text("abc def " * 300)
    data = load_data(f"text:{text}")
    recipe = adakd.plan.Request(f"text:{text}").resolved_recipe("student")
    assert recipe.train_images is None
    assert len(student_views(data, recipe, 0)) == len(data.train)


# ---- records ----


def committed(method, **options):
    """By seed, the committed runs of a method with these options."""
    found = {}
    for record in read_records(RECORDS / "methods.jsonl", complete=True):
        config = record["config"]
        if config["method"] == method and config["method_options"] == options:
            found[record["seed"]] = record["result"]
    return found


def test_with_a_teacher_a_student_is_better_by_more_than_two_standard_errors():
    alone, taught = committed("ce"), committed("kd")
    assert sorted(alone) == sorted(taught) == [0, 1, 2, 3, 4]
    for measure in ("nats", "kl_to_truth"):
        interval = paired_interval(*([runs[seed][measure] for seed in range(5)] for runs in (alone, taught)))
        assert interval.estimate > 2 * (interval.high - interval.low) / 2 / 2.776
