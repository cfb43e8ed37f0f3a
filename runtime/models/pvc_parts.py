"""PVC's own tensors of a checkpoint: taken out before the rest is read as an InternVL2, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .configs import Files
from .handle import ProjectorFacts, TowerFacts
from .headers import Stored
from .pvc_names import NAME, Part, PvcMap, compressor_names, pvc_facts, pvc_map, tower_names
from .strict import compare


@dataclass(frozen=True)
class PvcParts:
    """The data file, and PVC's own tensors by part and our name."""

    names: PvcMap
    own: Mapping[Part, Mapping[str, Stored]]

    def facts(
        self, files: Files, tower: TowerFacts, projector: ProjectorFacts, problems: list[str]
    ) -> tuple[TowerFacts, ProjectorFacts]:
        """Both with their `pvc`, unless there is nothing of it; what is wrong with it goes into `problems`.

        problems: those of the rest too; for tensors that are unknown, a line says where names can be mended.
        """
        if any("unknown" in problem or "no known part" in problem for problem in problems):
            problems.append(
                f"(PVC's names are proposals: if these are its own, say in a {NAME} beside config.json what "
                f"they are called; begin with a copy of {self.names.file})"
            )
        found = pvc_facts(self.names, self.own, files.config, tower.depth)
        temporal = tower_names(found, tower.hidden) if found.layers else {}
        modulating = compressor_names(found, tower.hidden * projector.side**2)
        problems += compare("temporal modules", temporal, self.own["tower"])
        problems += compare("compressor's AdaLN", modulating, self.own["projector"])
        if not temporal and not modulating:
            return tower, projector
        return (
            replace(tower, pvc=found),
            replace(projector, pvc=replace(found, compressor_adaln=bool(modulating))),
        )


def take_pvc(files: Files, stored: Mapping[str, Stored]) -> tuple[Mapping[str, Stored], PvcParts | None]:
    """The tensors of the InternVL2 that is underneath, and PVC's own; None for another kind of checkpoint."""
    if files.layout != "intern":
        return stored, None
    names = pvc_map(files.folder)
    if files.config.get("model_type") not in names.model_types:
        return stored, None
    others, own = names.take(stored)
    return others, PvcParts(names, own)
