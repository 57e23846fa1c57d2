"""A menu of builders by name; the signature of a builder is the schema of its options."""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, PydanticUndefinedAnnotation, ValidationError, create_model

from blitz.errors import BadInput, did_you_mean, in_one_line, no_such, refuse
from blitz.parts import memory
from blitz.redaction import redact

# The ranges that options are annotated with.
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]
Share = Annotated[float, Gt(0), Lt(1)]
Probability = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(1)]
Depth = Annotated[int, Ge(1), Le(2000)]  # layers: the deepest networks that were published have 1,202
Index = Annotated[int, Ge(0)]

LARGEST = 3.4e38  # number in fp32, in which parts compute

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

Builder = Callable[..., Any]
Model = TypeVar("Model", bound=BaseModel)


class Option(NamedTuple):
    """One row of `blitz options`."""

    name: str
    accepted: str
    default: Any  # inspect.Parameter.empty where a value must be given
    meaning: str


class Registry:
    """The choices of one config group: name -> builder.

    A builder's keyword-only parameters are its options; the positional ones are supplied by the run. `common` is a
    callable whose keyword-only parameters are options of every choice in the group: the run reads them, no builder
    receives them. Other packages add names through the entry-point group `plugins`.
    """

    def __init__(self, group: str, plugins: str, common: Builder | None = None, /, **builders: Builder) -> None:
        self.group = group
        self.plugins = plugins
        self.common = common
        self._builders = dict(builders)
        self._plugins_loaded = False

    def add(self, name: str, builder: Builder) -> None:
        """Add a choice; a name that exists already is an error."""
        if name in self.names():
            raise ValueError(f"{self.group}={name} exists already; choose another name")
        if not callable(builder):
            raise TypeError(f"{self.group}={name}: {builder!r} cannot be called")
        self._builders[name] = builder

    def names(self) -> list[str]:
        """With those of installed packages; what cannot be added of them is left out, with a warning."""
        if not self._plugins_loaded:
            self._plugins_loaded = True  # before loading: a plug-in may call add() while it is imported
            for point in entry_points(group=self.plugins):
                self._load(point)
        return list(self._builders)

    def builder(self, name: str) -> Builder:
        """Raises BadInput for a name that is not on the menu."""
        if name not in self.names():
            raise BadInput(no_such(f"{self.group}={name}", self.group, str(name), sorted(self._builders)))
        return self._builders[name]

    def options(self, name: str) -> list[Option]:
        """The options of a choice, its own first, then those that the whole group shares."""
        empty = inspect.Parameter.empty
        return [
            Option(key, _accepted_by(field), empty if field.is_required() else field.default, field.description or "")
            for key, field in _schema(self.builder(name), self.common).model_fields.items()
        ]

    def check(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        """The choice (`{"name": …, option: value, …}`) with every default filled in.

        Raises BadInput with all mistakes together, each with its dotted key.
        """
        options = dict(choice)
        name = options.pop("name", None)
        if name is None:
            raise BadInput(f"{self.group}: no choice made (accepted: {', '.join(sorted(self.names()))})")
        checked = validate(_schema(self.builder(name), self.common), options, self.group, f"option of {name}")
        values = checked.model_dump(mode="json")
        too_large = {key: value for key, value in values.items() if any(abs(n) > LARGEST for n in _numbers(value))}
        what = f"accepted: numbers up to {LARGEST}"
        refuse(f"{self.group}.{key}={json.dumps(value)}: {what}" for key, value in too_large.items())
        return {"name": name, **values}

    def shared(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        """Those options of a checked choice that the whole group shares."""
        return {key: choice[key] for key in _own(self.common).model_fields} if self.common else {}

    def build(self, choice: Mapping[str, Any], /, *supplied: Any) -> Any:
        """Build the part that a checked choice names from what the run supplies.

        Raises BadInput for sizes that the memory does not hold, besides what the builder raises.
        """
        builder = self.builder(choice["name"])
        options = {key: value for key, value in choice.items() if key in _own(builder).model_fields}
        try:
            return builder(*supplied, **options)
        except Exception as error:
            if not memory.is_too_large(error):
                raise
            raise self.too_large(choice) from None

    def sizes(self, choice: Mapping[str, Any]) -> list[str]:
        """The numbers among a choice's own options that are not at their defaults, as `GROUP.OPTION=VALUE`."""
        found = []
        for key, option in _own(self.builder(choice["name"])).model_fields.items():
            value, default = choice[key], option.default
            usual = list(default) if isinstance(default, tuple) else default
            if isinstance(value, int | float | list) and not isinstance(value, bool) and value != usual:
                found.append(f"{self.group}.{key}={json.dumps(value)}")
        return found

    def too_large(self, choice: Mapping[str, Any]) -> BadInput:
        """What is wrong with sizes that the memory does not hold."""
        what = ", ".join(self.sizes(choice)) or f"{self.group}={choice['name']}"
        return BadInput(
            f"{what}: too large for this machine ({memory.free() / 1e9:.1f} GB of memory are free); choose less"
        )

    def _load(self, point: EntryPoint) -> None:
        """Add what an installed package offers, or warn."""
        try:
            self.add(point.name, point.load())
        except (Exception, SystemExit) as error:  # whatever the import of somebody else's module raises
            package = point.dist.name if point.dist else "unknown"
            problem = (
                f"{self.group}={point.name}: left out: the installed package {package} offers it as {point.value}, "
                f"which cannot be added: {type(error).__name__}: {in_one_line(error)}; repair or uninstall {package}"
            )
            print(f"blitz: {redact(problem)}", file=sys.stderr)


def _numbers(value: Any) -> list[float]:
    return [number for number in (value if isinstance(value, list) else [value]) if isinstance(number, float)]


def validate(schema: type[Model], values: Mapping[str, Any], path: str, noun: str) -> Model:
    """`values` as the schema sees them, strictly: no text for a number, no truth value for a number, no infinity."""
    needed = [key for key in schema.model_fields if values.get(key) == "???"]  # OmegaConf's mark for no value
    details: list[Any] = [{"type": "missing", "loc": (key,)} for key in needed]
    try:
        given = {key: value for key, value in values.items() if key not in needed}
        # Through JSON, because strict Python input would refuse an int for a float and a list for a tuple.
        checked = schema.model_validate_json(json.dumps(given))
    except TypeError as error:
        wrong = [key for key, value in given.items() if not _is_plain(value)]
        what = f"only plain values can be recorded: {error}"
        raise BadInput(*(f"{path}.{key}: {what}".removeprefix(".") for key in wrong)) from None
    except ValidationError as error:
        details += error.errors(include_url=False)
    if not details:
        return checked
    prefix = f"{path}." if path else ""
    problems: dict[str, str] = {}  # one line a key: a union reports each of its members
    for detail in details:
        key = str(detail["loc"][0])
        if _is_unquoted(detail):
            dotted, number = ".".join(map(str, detail["loc"])), json.dumps(detail["input"])
            given_text = f"{prefix}{dotted}={number}"
            problems.setdefault(dotted, f"""{given_text}: accepted: text, such as '{prefix}{dotted}="{number}"'""")
        else:
            problems.setdefault(key, _message(schema, detail, prefix, key, values.get(key), noun))
    raise BadInput(*problems.values())


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def accepted(annotation: Any) -> str:
    """What a type accepts, in words: `number > 0`, `A or B`, `integer >= 1 or null`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        signs = {Gt: ("gt", ">"), Ge: ("ge", ">="), Lt: ("lt", "<"), Le: ("le", "<=")}
        marks = [(mark, *signs[type(mark)]) for mark in arguments[1:] if type(mark) in signs]
        bounds = [f"{sign} {getattr(mark, attribute)}" for mark, attribute, sign in marks]
        return " ".join([accepted(arguments[0]), " and ".join(bounds)]).strip()
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(accepted(argument) for argument in arguments)
    if origin in (list, tuple, Sequence):
        count = f" {len(arguments)}" if origin is tuple and ... not in arguments else ""
        return f"list of{count}: {accepted(arguments[0])}"
    if origin in (dict, Mapping) or annotation in (dict, Mapping):
        return f"mapping of {' to '.join(map(accepted, arguments))}" if arguments else "mapping"
    words = {float: "number", int: "integer", bool: "true or false", str: "text", type(None): "null", Any: "any value"}
    return words.get(annotation) or str(getattr(annotation, "__name__", annotation))


def meanings(documented: Builder) -> dict[str, str]:
    """Option -> meaning, from the `Args:` section of a docstring; a class adds to what its bases say."""
    found: dict[str, str] = {}
    for source in reversed(inspect.getmro(documented)) if inspect.isclass(documented) else [documented]:
        text = inspect.cleandoc(source.__doc__ or "")
        if section := re.search(r"^Args:\n((?:[ ]+.*\n?|\n)+)", text, re.MULTILINE):
            found |= dict(re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section.group(1), re.MULTILINE))
    return {name: " ".join(meaning.split()) for name, meaning in found.items()}


@cache
def _own(builder: Builder) -> type[BaseModel]:
    """The options of a builder alone. Raises BadInput for a type that does not exist at run time.

    What the run supplies may have its type under TYPE_CHECKING: it is not looked at.
    """
    explained = meanings(builder)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(builder).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            default = ... if parameter.default is parameter.empty else parameter.default
            written = Any if parameter.annotation is parameter.empty else parameter.annotation
            fields[name] = (written, Field(default, description=explained.get(name, "")))
    schema = create_model(builder.__name__, __config__=STRICT, **fields)
    function = inspect.unwrap(builder.__init__ if inspect.isclass(builder) else builder)
    try:
        schema.model_rebuild(_types_namespace=getattr(function, "__globals__", {}))
    except PydanticUndefinedAnnotation as error:
        of = [name for name, (written, _) in fields.items() if str(error.name) in str(written)]
        raise BadInput(
            f"{builder.__module__}.{builder.__qualname__}: the type {error.name} of its option {', '.join(of)} "
            "cannot be found; import it where it is imported at run time, not under TYPE_CHECKING"
        ) from None
    return schema


@cache
def _schema(builder: Builder, common: Builder | None) -> type[BaseModel]:
    fields = _own(builder).model_fields | (_own(common).model_fields if common else {})
    with_types: dict[str, Any] = {name: (field.annotation, field) for name, field in fields.items()}
    return create_model(builder.__name__, __config__=STRICT, **with_types)


def _message(schema: type[BaseModel], detail: Any, prefix: str, key: str, value: Any, noun: str) -> str:
    if detail["type"] == "extra_forbidden":
        return f"{prefix}{key}: no such {noun}{did_you_mean(key, schema.model_fields, prefix)}"
    acceptable = _accepted_by(schema.model_fields[key])
    if detail["type"] == "missing" and len(detail["loc"]) == 1:  # not an item of a tuple
        return f"{prefix}{key}: a value is needed (accepted: {acceptable})"
    shown = value if isinstance(value, str) and not _is_quoted(value) else json.dumps(value)
    if detail["type"] == "value_error":  # a validator of ours, which words its own message
        return f"{prefix}{key}={shown}: {detail['ctx']['error']}"
    return f"{prefix}{key}={shown}: accepted: {acceptable}"


def _is_unquoted(detail: Any) -> bool:
    """Whether it is a number or a truth value where a text was expected, and nothing else; not an item of a list."""
    of_a_key = all(isinstance(part, str) for part in detail["loc"]) and detail["loc"][-1] != "str"
    return of_a_key and detail["type"] == "string_type" and isinstance(detail["input"], int | float)


def _is_quoted(text: str) -> bool:
    """Whether it would be no text without quotes."""
    try:
        return not isinstance(json.loads(text), str)
    except ValueError:
        return False


def _accepted_by(field: Any) -> str:
    # pydantic takes the range apart from the type; put them together again for the words.
    return accepted(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)
