"""Settings files: YAML that is checked against a typed section, and profiles that extend one another."""

from pathlib import Path

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from projected_grpo.core.errors import InputError
from projected_grpo.settings.profile import Profile
from projected_grpo.settings.section import Section

WORDS = {  # in place of pydantic's, by type of the error
    "extra_forbidden": "unknown key",
    "missing": "the key is missing",
    "model_type": "expected a section of keys",
}


class SettingsError(InputError):
    """A settings file that cannot be used; the message names the file and the key."""


def profile_path(root: Path, name: str, where: str) -> Path:
    """Of the profile that `where` names. Raises SettingsError."""
    path = root / "profiles" / f"{name}.yaml"
    if not path.exists():
        known = sorted(p.stem for p in (root / "profiles").glob("*.yaml"))
        raise SettingsError(f"{where}: {path} does not exist; known profiles: {', '.join(known)}")
    return path


def read_profile(path: Path, below: tuple[Path, ...] = ()) -> dict:
    """The settings of a profile, those of the one that it extends among them. Raises SettingsError.

    A section stands in place of the other profile's where it names its kind or engine, and otherwise changes the keys that it gives.
    """
    own = read_yaml(path)
    if "extends" not in own:
        return own
    name, where = own.pop("extends"), f"{path}: key 'extends'"
    if not isinstance(name, str):
        raise SettingsError(f"{where}: found {name!r}, expected the name of a file in profiles/")
    parent = profile_path(path.parents[1], name, where)
    if parent in (path, *below):
        raise SettingsError(f"{where}: {name} extends this profile itself; let one of them stand alone")
    taken = read_profile(parent, (path, *below))
    check(Profile, taken, parent)
    return _over(taken, own)


def require_recorded(profile: Profile, path: Path) -> None:
    """Raises SettingsError where the profile is not the one whose keys DVC compares."""
    recorded = Path("artifacts/profile.yaml")
    if check(Profile, read_yaml(recorded), recorded) != profile:
        raise SettingsError(f"{path}: was changed since the stage profile wrote {recorded}, whose keys DVC compares; run `dvc repro profile`, or set it back")


def _over(under: dict, own: dict) -> dict:
    both = {key for key in own if isinstance(own[key], dict) and isinstance(under.get(key), dict) and not {"kind", "engine"} & own[key].keys()}
    return under | own | {key: _over(under[key], own[key]) for key in both}


def read_yaml(path: Path) -> dict:
    """The mapping of settings in a file. Raises SettingsError."""
    try:
        data = YAML(typ="safe").load(path.read_text())
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: found {type(data).__name__}, expected a mapping of settings")
    return data


def check(model: type[Section], data: dict, path: Path):
    """The settings in `data`, which come from `path`. Raises SettingsError with a line for each key that does not fit."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            tagged = item["loc"][:1] in (("model",), ("problems",), ("sampling",))  # pydantic puts the kind after the section's name
            parts = item["loc"][:1] + item["loc"][2:] if tagged else item["loc"]
            key = f"key '{'.'.join(map(str, parts))}': " if parts else ""
            found = "" if item["type"] in ("missing", "value_error") else f"; found {item['input']!r}"
            lines.append(f"{path}: {key}{WORDS.get(item['type'], item['msg'].removeprefix('Value error, '))}{found}")
        raise SettingsError("\n".join(lines)) from error
