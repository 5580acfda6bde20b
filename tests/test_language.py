"""Language models, token and sequence classification: the real models of transformers in its real Trainer, random weights."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import adakd

transformers = pytest.importorskip("transformers", reason="pip install transformers accelerate")
pytest.importorskip("accelerate", reason="pip install transformers accelerate")
if not transformers.is_torch_available():
    pytest.skip("this transformers wants a newer torch", allow_module_level=True)

# theirs, not ours
pytestmark = pytest.mark.filterwarnings("ignore")

VOCABULARY, PAD = 53, 0


def gpt2(width=16, layers=1, vocabulary=VOCABULARY, seed=0, kind=None):
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=vocabulary,
        n_layer=layers,
        n_embd=width,
        n_head=2,
        n_positions=16,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=PAD,
        num_labels=3,
        initializer_range=0.2,  # so that random teachers are not all but uniform
    )
    return (kind or transformers.GPT2LMHeadModel)(config)


def bert(kind, width=16, seed=0):
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        num_hidden_layers=1,
        hidden_size=width,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=5,
        pad_token_id=PAD,
        initializer_range=0.2,
    )
    return kind(config)


def sentences(count=8, seed=0, longest=10):
    """Rows of unequal length, labels as a collator for language models makes them: -100 where there is padding."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, longest + 1, (count,), generator=generator)
    ids = torch.randint(3, VOCABULARY, (count, longest), generator=generator)
    mask = torch.arange(longest) < lengths[:, None]
    return {
        "input_ids": ids.where(mask, PAD),
        "attention_mask": mask.long(),
        "labels": ids.where(mask, -100),
    }


def rows_of(batch):
    return [{name: value[i] for name, value in batch.items()} for i in range(len(batch["labels"]))]


def inputs_of(batch):
    return {name: value for name, value in batch.items() if name != "labels"}


def arguments(folder, **options):
    settings = {
        "output_dir": str(folder),
        "max_steps": 3,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "learning_rate": 1e-2,
        "remove_unused_columns": False,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "seed": 1,
    }
    return transformers.TrainingArguments(**{**settings, **options})


def trainer(model, batch, folder, **options):
    rows = rows_of(batch)
    return transformers.Trainer(
        model=model, args=arguments(folder, **options), train_dataset=rows, eval_dataset=rows
    )


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def written_out(student, teacher, batch, shift, tau=4.0, ce_weight=0.1, kd_weight=0.9):
    """The loss of kd, by hand: shift, mask, cross entropy and KL on the positions that are left, their means."""
    s, t = (net(**inputs_of(batch)).logits for net in (student, teacher))
    labels = batch["labels"]
    if shift:
        s, t, labels = s[:, :-1], t[:, :-1], labels[:, 1:]
    ce = kd = count = 0
    for row_s, row_t, label in zip(s.flatten(0, -2), t.flatten(0, -2), labels.flatten(), strict=True):
        if label == -100:
            continue
        p, q = (row_t.detach() / tau).softmax(-1), (row_s / tau).softmax(-1)
        ce = ce - row_s.softmax(-1)[label].log()
        kd = kd + tau**2 * (p * (p / q).log()).sum()
        count += 1
    return (ce_weight * ce + kd_weight * kd) / count, count


# ---- the loss ----

CASES = {
    "causal": (gpt2, lambda **k: gpt2(width=24, layers=2, **k), True),
    "tokens": (
        lambda **k: bert(transformers.BertForTokenClassification, **k),
        lambda **k: bert(transformers.BertForTokenClassification, width=32, **k),
        False,
    ),
    "masked": (
        lambda **k: bert(transformers.BertForMaskedLM, **k),
        lambda **k: bert(transformers.BertForMaskedLM, width=32, **k),
        False,
    ),
    "sequences": (
        lambda **k: bert(transformers.BertForSequenceClassification, **k),
        lambda **k: bert(transformers.BertForSequenceClassification, width=32, **k),
        False,
    ),
}


def batch_of(case, **options):
    batch = sentences(**options)
    if case == "tokens":
        batch["labels"] = torch.where(batch["labels"] == -100, -100, batch["labels"] % 5)
    if case == "masked":
        batch["labels"][:, ::2] = -100
    if case == "sequences":
        batch["labels"] = batch["input_ids"][:, 0] % 5
    return batch


def pair_of(case):
    student, teacher, shift = CASES[case]
    return student(seed=0), teacher(seed=1), shift


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_those_written_out_by_hand(case):
    student, teacher, shift = pair_of(case)
    model = adakd.TrainerDistiller(student, teacher, "kd").double()
    assert model.shift is shift
    batch = batch_of(case)
    out = model(**batch)
    out["loss"].backward()
    grads = [p.grad.clone() for p in student.parameters() if p.grad is not None]
    student.zero_grad(set_to_none=True)
    expected, count = written_out(student, teacher, batch, shift)
    expected.backward()
    close(out["loss"], expected)
    for a, b in zip(grads, [p.grad for p in student.parameters() if p.grad is not None], strict=True):
        close(a, b)
    close(out["logits"], student(**inputs_of(batch)).logits)
    # of the parts of a step, each is its sum over what the whole step counts
    close(model(**batch, num_items_in_batch=torch.tensor(3 * count))["loss"], expected / 3)


@pytest.mark.parametrize("method", ["zkd+mlt", "kd+adakd", "dist", "zdkd+dtkd", "ctkd"])
def test_any_method_equals_its_criterion_on_the_kept_positions(method):
    model = adakd.TrainerDistiller(gpt2(), gpt2(width=24, seed=1), method).double().eval()
    batch = sentences()
    s, t = model.logits(**inputs_of(batch))
    keep = batch["labels"][:, 1:] != -100
    expected = model.criterion(s[:, :-1][keep], t[:, :-1][keep], batch["labels"][:, 1:][keep])
    close(model(**batch)["loss"], expected.total)


def test_padding_teaches_nothing():
    model = adakd.TrainerDistiller(gpt2(), gpt2(width=24, seed=1), "zkd+mlt").double()
    batch = sentences()
    short = {name: value[:, :10] for name, value in batch.items()}
    long = {name: F.pad(value, (0, 4), value={"labels": -100}.get(name, 0)) for name, value in batch.items()}
    close(model(**short)["loss"], model(**long)["loss"])


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_slices_of_a_vocabulary_are_the_same_loss(chunk):
    models = [
        adakd.TrainerDistiller(gpt2(), gpt2(width=24, seed=1), "zkd+mlt", chunk=size).double()
        for size in (None, chunk)
    ]
    for model in models:
        model(**sentences())["loss"].backward()
    for a, b in zip(*(model.student.parameters() for model in models), strict=True):
        close(a.grad, b.grad)


def test_padded_vocabularies():
    student, teacher = gpt2(), gpt2(width=24, seed=1, vocabulary=64)
    with pytest.raises(ValueError, match=r"64 and 53.*pad_vocab='truncate'"):
        adakd.TrainerDistiller(student, teacher, "kd")(**sentences())
    model = adakd.TrainerDistiller(student, teacher, "kd", pad_vocab="truncate").double()
    batch = sentences()
    s, t = model.logits(**inputs_of(batch))
    rows, labels = s[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
    expected = adakd.create_method("kd")(rows, t[:, :-1, :VOCABULARY].flatten(0, 1), labels).total
    close(model(**batch)["loss"], expected)


def test_an_encoder_with_a_decoder_is_not_shifted_twice():
    def t5(width, seed):
        torch.manual_seed(seed)
        config = transformers.T5Config(
            vocab_size=VOCABULARY,
            d_model=width,
            d_kv=8,
            d_ff=width,
            num_layers=1,
            num_heads=2,
            dropout_rate=0.0,
            decoder_start_token_id=PAD,
        )
        return transformers.T5ForConditionalGeneration(config)

    model = adakd.TrainerDistiller(t5(16, 0), t5(24, 1), "ce").double()
    assert model.shift is False
    batch = sentences()
    close(model(**batch)["loss"], model.student(**batch).loss, 1e-6)


@pytest.mark.parametrize("case", CASES)
def test_cross_entropy_alone_is_the_loss_of_transformers(case):
    student, teacher, _ = pair_of(case)
    model = adakd.TrainerDistiller(student, teacher, "ce").double()
    batch = batch_of(case)
    close(model(**batch)["loss"], student(**batch).loss.double(), 1e-6)  # theirs is fp32


# ---- who decides on the shift ----


class Own(nn.Module):
    """A network of somebody's own, which says nothing about its labels."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.embed, self.head = nn.Embedding(VOCABULARY, 8), nn.Linear(8, VOCABULARY)

    def forward(self, input_ids, attention_mask=None):
        return self.head(self.embed(input_ids))


def test_an_unclear_shift_is_asked_for():
    batch = sentences()
    with pytest.raises(ValueError, match=r"labels: expected to know whether .*\(8, 10\) are shifted, and Own"):
        adakd.TrainerDistiller(Own(), Own(1), "kd")(**batch)
    losses = []
    for shift in (True, False):
        model = adakd.TrainerDistiller(Own(), Own(1), "kd", shift=shift).double()
        s, t = model.logits(batch["input_ids"])
        at, to = (slice(None, -1), slice(1, None)) if shift else (slice(None), slice(None))
        losses.append(model(**batch)["loss"])
        close(losses[-1], adakd.create_method("kd")(s[:, at], t[:, at], batch["labels"][:, to]).total)
    assert losses[0] != losses[1]


def test_a_student_and_a_teacher_that_predict_other_positions_are_refused():
    masked = bert(transformers.BertForMaskedLM)
    with pytest.raises(ValueError, match="GPT2LMHeadModel predicts the next position and the teacher does not"):
        adakd.TrainerDistiller(gpt2(), masked)
    with pytest.raises(ValueError, match="BertForMaskedLM labels the same position"):
        adakd.TrainerDistiller(masked, [gpt2(), copy.deepcopy(masked)])
    assert adakd.TrainerDistiller(gpt2(), bert(transformers.BertForMaskedLM), shift=True).shift


@pytest.mark.parametrize("kind", ["regression", "multi_label_classification"])
def test_what_is_no_choice_of_one_class_is_refused(kind):
    student = bert(transformers.BertForSequenceClassification)
    student.config.problem_type = kind
    with pytest.raises(ValueError, match=f"problem_type='{kind}'"):
        adakd.TrainerDistiller(student, bert(transformers.BertForSequenceClassification, seed=1))


def test_a_subclass_is_known_by_what_it_is_made_of():
    class Mine(transformers.GPT2LMHeadModel):
        pass

    assert adakd.TrainerDistiller(gpt2(kind=Mine), gpt2(seed=1)).shift is True
    assert (
        adakd.TrainerDistiller(
            gpt2(kind=transformers.GPT2ForSequenceClassification),
            gpt2(kind=transformers.GPT2ForSequenceClassification, seed=1),
        ).shift
        is False
    )


# ---- the Trainer ----


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("case", CASES)
def test_the_trainer_trains_by_that_loss(case, tmp_path):
    """Three steps of it are three steps of AdamW on the loss written out by hand."""
    student, teacher, shift = pair_of(case)
    model = adakd.TrainerDistiller(student, teacher, "kd").double()
    twin, frozen, batch = copy.deepcopy(student), weights_of(teacher), batch_of(case)
    run = trainer(model, batch, tmp_path, lr_scheduler_type="constant", max_grad_norm=0.0)
    run.train()
    optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-2, weight_decay=0.0)
    twin.train()
    for _ in range(3):
        optimizer.zero_grad()
        written_out(twin, teacher, batch, shift)[0].backward()
        optimizer.step()
    for (name, a), b in zip(student.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6, msg=name)
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, frozen[name])
    found = run.evaluate()["eval_loss"]
    assert found == pytest.approx(written_out(student.eval(), teacher, batch, shift)[0].item(), rel=1e-6)
    assert (
        run.predict(rows_of(batch)).predictions.shape[-1] == student.config.vocab_size
        if case in ("causal", "masked")
        else 5
    )
    bare = run.predict(rows_of(inputs_of(batch) | {"labels": batch["labels"]})).predictions
    assert bare.shape[: batch["labels"].ndim] == batch["labels"].shape
    unlabelled = [{k: v for k, v in row.items() if k != "labels"} for row in rows_of(batch)]
    alone = run.predict(unlabelled)
    torch.testing.assert_close(torch.as_tensor(alone.predictions), torch.as_tensor(bare))
    assert "test_loss" not in alone.metrics


@pytest.mark.parametrize("case", ["causal", "tokens"])
def test_parts_of_unequal_padding_add_up_to_one_large_batch(case, tmp_path):
    batch = batch_of(case)
    trained, counts = [], set()
    for parts in (1, 2, 4):
        student, teacher, _ = pair_of(case)
        model = adakd.TrainerDistiller(student, teacher, "zkd+mlt").double()
        model.register_forward_pre_hook(
            lambda module, args, named: counts.add(int((named["labels"] != -100).sum())), with_kwargs=True
        )
        trainer(
            model,
            batch,
            tmp_path,
            per_device_train_batch_size=8 // parts,
            gradient_accumulation_steps=parts,
        ).train()
        trained.append(student)
    assert len(counts) > 6  # unequal parts, or the mean of means would do as well
    for other in trained[1:]:
        for a, b in zip(trained[0].parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_of_probabilities_too_and_every_class_is_no_label_of_its_own(case, tmp_path):
    """One step of SGD, in 1, 2 and 4 parts and a last one that is smaller, by the gradient of the one large batch."""
    shift = CASES[case][2]
    batch, classes = sentences(count=7), pair_of(case)[0].config.num_labels
    if case in ("causal", "masked"):
        classes = VOCABULARY
    generator = torch.Generator().manual_seed(2)
    shape = (7, classes) if case == "sequences" else (7, 10, classes)
    batch["labels"] = torch.randn(shape, generator=generator, dtype=torch.float64).softmax(-1)
    student, teacher, _ = pair_of(case)
    twin = adakd.TrainerDistiller(copy.deepcopy(student), teacher, "kd").double()
    twin(**batch)["loss"].backward()
    for parts in (1, 2, 4):
        model = adakd.TrainerDistiller(copy.deepcopy(student), teacher, "kd").double()
        assert model.shift is shift
        run = trainer(
            model,
            batch,
            tmp_path,
            per_device_train_batch_size=-(-7 // parts),
            gradient_accumulation_steps=parts,
            max_steps=1,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            learning_rate=1.0,
            optim="sgd",
        )
        run.train()
        assert run.state.global_step == 1
        for (name, old), a, b in zip(
            student.double().named_parameters(),
            model.student.parameters(),
            twin.student.parameters(),
            strict=True,
        ):
            if b.grad is not None:
                torch.testing.assert_close(old - a, b.grad, rtol=1e-9, atol=1e-9, msg=name)
        assert run.evaluate()["eval_loss"] == pytest.approx(model.eval()(**batch)["loss"].item(), rel=1e-6)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_activations_change_nothing(reentrant, tmp_path):
    trained = []
    for enabled in (False, True):
        student, teacher = gpt2(layers=2), gpt2(width=24, seed=1)
        model = adakd.TrainerDistiller(student, teacher, "zkd+mlt").double()
        assert not model.is_gradient_checkpointing
        if enabled:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
            assert student.is_gradient_checkpointing
            assert model.is_gradient_checkpointing
        trainer(model, sentences(), tmp_path).train()
        model.gradient_checkpointing_disable()
        assert not student.is_gradient_checkpointing
        trained.append(student)
    for a, b in zip(*(student.parameters() for student in trained), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_the_trainers_own_switch_for_checkpointing_reaches_the_student(tmp_path):
    student = gpt2(layers=2)
    model = adakd.TrainerDistiller(student, gpt2(width=24, seed=1), "zkd+mlt")
    trainer(model, sentences(), tmp_path, gradient_checkpointing=True).train()
    assert student.is_gradient_checkpointing


@pytest.mark.parametrize("method", ["zkd+mlt", "ctkd", "dts"])
def test_stopped_and_resumed_from_the_trainers_own_checkpoint(method, tmp_path):
    """Bit for bit, tied embeddings and the state of the rule included."""
    batch = sentences(count=16)
    trained = []
    for stop in (None, 3):
        student, teacher = gpt2(), gpt2(width=24, seed=1)
        folder = tmp_path / str(stop)
        options = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3}
        model = adakd.TrainerDistiller(student, teacher, method)
        model.epoch = 2
        if stop is None:
            trainer(model, batch, folder, **options).train()
            trained.append(weights_of(model))
            continue
        checkpoint = tmp_path / "None" / "checkpoint-3"
        again = trainer(model, batch, folder, **options)
        again.train(resume_from_checkpoint=str(checkpoint))
        assert again.state.global_step == 6
        trained.append(weights_of(model))
    whole, resumed = trained
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_tied_weights_are_saved_once_and_stay_tied():
    model = adakd.TrainerDistiller(gpt2(), gpt2(seed=1), "ctkd")
    state = model.state_dict()
    assert ("student.lm_head.weight" in state) != ("student.transformer.wte.weight" in state)
    other = adakd.TrainerDistiller(gpt2(seed=5), gpt2(seed=1), "ctkd")
    assert other.load_state_dict(state) == torch.nn.modules.module._IncompatibleKeys([], [])
    assert other.student.lm_head.weight is other.student.transformer.wte.weight
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_shared_buffer_is_saved_once_too():
    def student():
        net = nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4), nn.Linear(4, 3))
        net[1].running_mean = net[0].running_mean
        net[1].weight = nn.Parameter(net[0].weight.data)  # two parameters, one memory
        return net

    states = [adakd.TrainerDistiller(student(), nn.Linear(4, 3), "kd") for _ in range(2)]
    saved = states[0].state_dict()
    assert "student.1.running_mean" not in saved
    assert "student.1.weight" not in saved
    assert "student.1.bias" in saved
    states[1].load_state_dict(saved)
    states[1].load_state_dict(student().state_dict(prefix="student."))  # all names are as welcome


def test_the_student_is_saved_and_speaks_for_itself(tmp_path):
    student = gpt2()
    model = adakd.TrainerDistiller(student, gpt2(width=24, seed=1), "zkd+mlt").eval()
    assert model.config is student.config
    assert model.can_generate()
    prompt = torch.tensor([[5, 6, 7]])
    spoken = model.generate(prompt, max_new_tokens=3, do_sample=False)
    assert torch.equal(spoken, student.generate(prompt, max_new_tokens=3, do_sample=False))
    model.save_pretrained(tmp_path / "student")
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "student").eval()
    assert torch.equal(again(prompt).logits, student(prompt).logits)
    for name in ("config", "generate", "save_pretrained"):  # nobody's where the student has none
        assert not hasattr(adakd.TrainerDistiller(Own(), Own(1), "kd"), name)


def test_a_loss_of_the_trainers_own_is_refused(tmp_path):
    def model():
        return adakd.TrainerDistiller(gpt2(), gpt2(width=24, seed=1), "kd")

    with pytest.raises(ValueError, match=r"label_smoothing_factor and compute_loss_func.*label_smoothing="):
        trainer(model(), sentences(), tmp_path, label_smoothing_factor=0.1).train()
    run = trainer(model(), sentences(), tmp_path)
    run.compute_loss_func = lambda outputs, labels, num_items_in_batch: outputs["logits"].mean()
    with pytest.raises(ValueError, match="label_smoothing_factor and compute_loss_func"):
        run.train()


def test_a_compiled_student_is_known_too():
    assert adakd.TrainerDistiller(torch.compile(gpt2(), backend="eager"), gpt2(seed=1)).shift is True


def test_images_by_name(tmp_path):
    def vit(width, seed):
        torch.manual_seed(seed)
        config = transformers.ViTConfig(
            hidden_size=width,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=width,
            image_size=8,
            patch_size=4,
            num_labels=5,
        )
        return transformers.ViTForImageClassification(config)

    generator = torch.Generator().manual_seed(0)
    batch = {"pixel_values": torch.randn(8, 3, 8, 8, generator=generator), "labels": torch.arange(8) % 5}
    model = adakd.TrainerDistiller(vit(16, 0), vit(24, 1), "zkd+mlt").eval()
    s, t = (net.eval()(batch["pixel_values"]).logits for net in (model.student, model.teacher))
    close(model(**batch)["loss"], adakd.create_method("zkd+mlt")(s, t, batch["labels"]).total, 1e-6)
    run = trainer(model, batch, tmp_path)
    run.train()
    assert run.predict(rows_of(batch)).predictions.shape == (8, 5)


class Memory(adakd.Term):
    """Mean square distance of the logits; it counts how often it has trained on each example."""

    def build(self, student, teacher, train_images):
        self.register_buffer("seen", torch.zeros(train_images))

    def forward(self, student, teacher, batch):
        if batch.index is None:
            raise ValueError("index: Memory needs the positions")
        if self.training:
            self.seen[batch.index] += 1
        return (student.logits - teacher.logits).square().mean(1)


def test_a_column_of_positions_reaches_a_terms_memory(tmp_path):
    generator = torch.Generator().manual_seed(0)
    batch = {"x": torch.randn(8, 6, generator=generator), "labels": torch.arange(8) % 3}

    class Net(nn.Module):  # which would not take an index
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x):
            return {"logits": self.layer(x)}

    objective = adakd.Objective({"memory": Memory()}, {"memory": 1.0})
    model = adakd.TrainerDistiller(Net(), Net(), objective).build({"x": batch["x"][:2]}, 20)
    with pytest.raises(ValueError, match="index: Memory needs the positions"):
        model(**batch)
    run = trainer(model, {**batch, "index": torch.arange(8) + 5}, tmp_path, max_steps=2)
    run.train()
    seen = torch.zeros(20)
    seen[5:13] = 2
    assert torch.equal(model.criterion.terms["memory"].seen, seen)


def test_the_best_checkpoint_is_loaded_again(tmp_path):
    """By the Trainer: tied embeddings are whole in it, and stay tied."""
    model = adakd.TrainerDistiller(gpt2(), gpt2(width=24, seed=1), "zkd+mlt")
    run = trainer(
        model,
        sentences(),
        tmp_path,
        learning_rate=0.5,  # so that the last is not the best
        lr_scheduler_type="constant",
        max_steps=3,
        save_strategy="steps",
        save_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        load_best_model_at_end=True,
    )
    run.train()
    losses = [row["eval_loss"] for row in run.state.log_history if "eval_loss" in row]
    assert min(losses) < losses[-1]
    assert run.evaluate()["eval_loss"] == pytest.approx(min(losses), rel=1e-6)
    assert model.student.lm_head.weight is model.student.transformer.wte.weight


def test_a_callback_drives_the_epochs(tmp_path):
    told = []

    class Epochs(transformers.TrainerCallback):
        def on_epoch_begin(self, args, state, control, model, **_):
            model.epoch = int(state.epoch) + 1
            told.append(model.epoch)

    model = adakd.TrainerDistiller(gpt2(), gpt2(width=24, seed=1), "ctkd")
    run = trainer(model, sentences(count=16), tmp_path, max_steps=6)
    run.add_callback(Epochs())
    run.train()
    assert told == [1, 2, 3]


@pytest.mark.parametrize("count", [0, torch.tensor(0)])
def test_a_step_without_a_label_is_nothing(count):
    model = adakd.TrainerDistiller(gpt2(), gpt2(width=24, seed=1), "ctkd")
    model.epoch = 1
    batch = sentences()
    batch["labels"][:] = -100
    loss = model(**batch, num_items_in_batch=count)["loss"]
    loss.backward()
    assert loss == 0
    assert all((p.grad == 0).all() for p in model.parameters())


def test_in_bfloat16_the_loss_is_still_fp32(tmp_path):
    model = adakd.TrainerDistiller(gpt2(), gpt2(width=24, seed=1), "zkd+mlt")
    before = weights_of(model)
    trainer(model, sentences(), tmp_path, bf16=True).train()
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    half = adakd.TrainerDistiller(gpt2(), gpt2(width=24, seed=1), "zkd+mlt").bfloat16()
    out = half(**sentences())
    assert out["logits"].dtype == torch.bfloat16
    assert out["loss"].dtype == torch.float32


def test_two_teachers_of_language():
    teachers = [gpt2(width=24, seed=1), gpt2(width=32, seed=2)]
    model = adakd.TrainerDistiller(gpt2(), teachers, "kd").double()
    batch = sentences()
    mean = torch.stack([t(**inputs_of(batch)).logits.softmax(-1) for t in teachers]).mean(0).log()
    close(model.logits(**inputs_of(batch))[1], mean, 1e-10)
    assert model(**batch)["loss"].isfinite()
