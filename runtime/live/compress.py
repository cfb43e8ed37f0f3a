"""`tokenloom.compress`: a stock transformers model that answers from fewer visual tokens, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from .. import registry
from ..context import counting
from ..errors import GraphError, LoomError, PromptError, did_you_mean
from ..graph import Graph
from ..plan import Plan, plan
from ..result import Row
from ..run import execute
from .decoding import Decoding, asked_for, decoding, padding
from .graft import HANDLES, PLURAL, PROMPT, STATE, Form, Media, unknown_param
from .inputs import NAMES, InputRow, read_rows
from .methods import forms, settings_of
from .parts import Live, live
from .report import Report, RowReport
from .wires import wired


def compress(
    model: Any,
    graph: str | Path | Graph = "visionzip",
    /,
    *,
    settings: Mapping[str, Any] | None = None,
    **params: Any,
) -> Compressed:
    """A wrapper around `model` whose `generate` runs a graph: the method's tokens reach the language model.

    model: a LlavaForConditionalGeneration, LlavaNextForConditionalGeneration or
    LlavaOnevisionForConditionalGeneration, of any size, dtype and device. Its weights are used where they
    lie, and it is left as it is: nothing is patched, so that its own forward and generate, other
    compressions of it, and all else in the process go on as before.
    graph: a built-in graph (`visionzip`, `fastv`, `lookm`, `prunevid`, `mixes/...`; `tokenloom graphs`), a
    graph file, or a Graph. Built-in ones, and files that extend one, are put on the base of the model's
    family; a Graph is taken as it is. Models, tiles and prompt are given to it; its steps from the tower to
    `generate` run.
    params: the graph's parameters, e.g. `keep=64`. settings: any other setting, by `step.setting`.

        with tokenloom.compress(model, "visionzip", keep=64) as small:
            ids = small.generate(**processor(images=image, text=prompt, return_tensors="pt"))
        print(processor.batch_decode(ids, skip_special_tokens=True), small.last)

    Errors: ModelError for another model, CheckpointError for a tower or language model of an unknown family,
    GraphError for unknown graphs, parameters and settings, and whatever the graph's nodes foresee that cannot
    work with this model, such as more tokens than there are patches.
    """
    parts = live(model)
    tower = parts.facts.tower
    assert tower is not None
    found = _set(forms(graph, parts.family, tower.grid), settings or {}, params)
    made = Compressed(model, parts, found, params)
    made._check()
    return made


class Compressed:
    """A model in memory whose visual tokens go through a graph. Made by `compress`; a context manager.

    model: the model itself, unchanged. last: what the stages of the latest `generate` did; None before.
    """

    def __init__(
        self, model: Any, parts: Live, found: Mapping[Media, Form | LoomError], params: Mapping[str, Any]
    ) -> None:
        self.model: Any = model
        self.last: Report | None = None
        self._parts: Live | None = parts
        self._forms, self._params = dict(found), dict(params)
        self._graphs: dict[tuple[Media, ...], tuple[Graph, list[str]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the model. What `last` holds stays."""
        self._parts = None
        self._graphs.clear()
        self.model = None

    def __repr__(self) -> str:
        title = next(form.graph.title for form in self._forms.values() if isinstance(form, Form))
        given = "".join(f", {name}={value!r}" for name, value in self._params.items())
        return f"<{'closed' if self._parts is None else self._parts.name}: {title}{given}>"

    @property
    def device(self) -> torch.device:
        """Where the model lies: `processor(...).to(small.device)`."""
        return self._known().device

    def _check(self) -> None:
        """Raise what the graph's nodes foresee that cannot work with this model, whatever the pictures."""
        errors: list[LoomError] = []
        for media, form in self._forms.items():
            if isinstance(form, LoomError):
                errors.append(form)
                continue
            try:
                self._plan((media,), {}, outputs=[STATE])
            except LoomError as error:
                errors.append(error)
                self._forms[media] = error
                self._graphs.clear()
        if len(errors) == len(self._forms):
            raise errors[0]

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor | None = None,
        *,
        generation_config: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """[B, S + n] long: the prompt's ids as they came, and n new ones, shorter answers padded at the end.

        So `processor.batch_decode` takes it like the plain model's. kwargs: what the processor returned
        (input_ids [B, S], attention_mask [B, S], pixel_values, image_sizes, batch_num_images,
        pixel_values_videos; padding on either side, any number of pictures in a row, none too), and
        max_new_tokens, max_length, min_new_tokens, min_length, do_sample, temperature, top_p, top_k,
        eos_token_id, pad_token_id; what is not given is as `generation_config`, or the model's, says.
        inputs: input_ids, given by place. seed: of the first row's samples, the next row's is one more; None:
        drawn from torch's own generator.

        A row without pictures is answered as the model itself would. Errors: PromptError and MediaError for
        inputs that do not fit the model or each other, GraphError for other arguments of generate (beams,
        assistants, processors of logits, ...); those of the graph's nodes.
        """
        parts = self._known()
        given = {name: kwargs.pop(name) for name in NAMES if name in kwargs}
        if inputs is not None:
            if "input_ids" in given:
                raise PromptError("generate: inputs and input_ids are both given; wanted one of them")
            given["input_ids"] = inputs
        said = asked_for(self.model, generation_config, kwargs)
        rows = read_rows(parts, given, padding(said))
        ids: Tensor = given["input_ids"]
        language = parts.facts.language
        assert language is not None
        how = decoding(said, length=ids.shape[1], longest=language.max_length, seed=seed)
        begun = [self._row(number, row) for number, row in enumerate(rows)]
        new = self._answers(begun, how)
        most = max(map(len, new))
        filled = [[*answer, *[how.pad] * (most - len(answer))] for answer in new]
        return torch.cat([ids, torch.tensor(filled, dtype=ids.dtype, device=ids.device)], 1)

    def _row(self, number: int, row: InputRow) -> RowReport:
        """A row up to the state that its answer is generated from."""
        parts = self._known()
        try:
            if not row.wires:
                place: Any = registry.find("place_tokens")
                return RowReport(state=place(parts.llm, row.prompt), full=0)
            media: tuple[Media, ...] = tuple([media for media, _ in row.wires])
            _, names = self._graph(media)
            tiles = dict(zip(names, (one for _, one in row.wires), strict=True))
            result = execute(self._plan(media, {PROMPT: row.prompt, **tiles}))
        except Exception as error:
            error.add_note(f"in row {number} of the batch")
            raise
        outputs = {name: value for name, value in result.outputs.items() if name != STATE}
        return RowReport(state=result[STATE], full=row.full, stages=result.report, outputs=outputs)

    def _answers(self, rows: Sequence[RowReport], how: Decoding) -> list[tuple[int, ...]]:
        """The new ids of every row, decoded side by side, or one by one if each has its own seed."""
        generate: Any = registry.find("generate")
        calls = [(self._known().llm, row.state, None) for row in rows]
        with counting() as tally:
            begin = perf_counter()
            if how.temperature:
                done = [generate(*call, **how.widgets_of(number)) for number, call in enumerate(calls)]
            else:
                done = generate.many(calls, **how.widgets_of(0))
            seconds = perf_counter() - begin
        stage = Row("answer", "generate", seconds, "", None, {}, 0, 0, 0.0, tally.flops)
        answers = [one.answer for one in done]
        self.last = Report(
            tuple(row.answered(answer) for row, answer in zip(rows, answers, strict=True)), stage
        )
        return [answer.ids for answer in answers]

    def _plan(self, media: tuple[Media, ...], values: Mapping[str, Any], **more: Any) -> Plan:
        parts = self._known()
        graph, _ = self._graph(media)
        handles = dict(zip(HANDLES.values(), (parts.vision, parts.projector, parts.llm), strict=True))
        params = {name: value for name, value in self._params.items() if name in graph.params}
        return plan(graph, {**params, **handles, **values}, device=str(parts.device), **more)

    def _graph(self, media: tuple[Media, ...]) -> tuple[Graph, list[str]]:
        """The graph for media in this order, a wire each, and the parameters that hold their tiles."""
        if media not in self._graphs:
            chosen: list[Form] = []
            for one in media:
                form = self._forms[one]
                if isinstance(form, LoomError):
                    raise GraphError(
                        f"generate: {PLURAL[one]} came, for which {self!r} does not work: {form}"
                    ) from form
                chosen.append(form)
            self._graphs[media] = wired(chosen)
        return self._graphs[media]

    def _known(self) -> Live:
        if self._parts is None:
            raise LoomError(
                "generate: this compression was left; make one with tokenloom.compress(model, ...)"
            )
        return self._parts


def _set(
    found: dict[Media, Form | LoomError], settings: Mapping[str, Any], params: Mapping[str, Any]
) -> dict[Media, Form | LoomError]:
    """The forms with these settings. Errors: GraphError for what no form knows."""
    there = [form for form in found.values() if isinstance(form, Form)]
    for name in params:
        if not any(name in form.params for form in there):
            raise unknown_param(name, there)
    for name in settings:
        step = name.rpartition(".")[0]
        known = {id for form in there for id in form.graph.steps}
        if step not in known:
            raise GraphError(
                f"compress.settings: {name!r} names no step of the graph; wanted step.setting"
                f"{did_you_mean(step, known)}"
            )
    return {
        media: settings_of(form, settings) if isinstance(form, Form) else form
        for media, form in found.items()
    }


__all__ = ["Compressed", "compress"]
