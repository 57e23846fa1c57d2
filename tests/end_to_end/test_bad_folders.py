"""Folders of a user's own with bad YAML, interpolations that lead nowhere, and configs that name code."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.cases import SMALL, Case, Content, Forks, bad, fine, link

from blitz.config.groups import CONF


def listening(path: Path) -> None:
    """A file that nobody can open, root included."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def own(content: Content, name: str = "optimizer/own") -> dict[str, Content]:
    return {f"dir/{name}.yaml": content}


def recipe(text: str) -> dict[str, Content]:
    return own(f"# @package _global_\n{text}", "experiment/own")


def bad_part(name: str, content: Content, *words: str, **more: object) -> Case:
    """A file of an optimizer."""
    return bad(name, "--config-dir dir optimizer=own", *words, files=own(content), **more)


def bad_recipe(name: str, text: str, *words: str, flags: str = "", **more: object) -> Case:
    return bad(name, f"--config-dir dir experiment=own {flags}".strip(), *words, files=recipe(text), **more)


FILE = "dir/optimizer/own.yaml"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)

# What YAML says of a file, which must be named.
BROKEN = [
    bad_part("tab-indented", "name: sgd\nbetas:\n\t- 1\n", FILE, "line 3"),
    bad_part("tab-after-colon", "name:\n\tsgd\n", FILE, "line 2"),
    bad_part("unclosed-bracket", "name: sgd\nlr: [1\n", FILE),
    bad_part("unclosed-quote", 'name: "sgd\nlr: 1\n', FILE),
    bad_part("colon-in-value", "name: sgd: adam\n", FILE, "line 1"),
    bad_part("key-without-colon", "name: sgd\nlr\nmomentum: 0\n", FILE),
    bad_part("two-documents", "name: sgd\n---\nname: adam\n", FILE, "line 2"),
    bad_part("unknown-anchor", "name: *sgd\n", FILE, "sgd"),
    bad_part("nul", b"name: sgd\0\n", FILE),
    bad_part("control-character", b"name: sg\x07d\n", FILE),
    bad_part("not-utf-8", b"name: sg\xff\n", FILE),
    bad_part("utf-16", "name: sgd\n".encode("utf-16"), FILE),
    bad_part("binary", bytes(range(256)) * 4, FILE),
    bad_part("list", "- sgd\n- adam\n", 'optimizer=["sgd", "adam"]: accepted: mapping of options to values'),
    bad_part("text", "sgd\n", "optimizer: no choice made"),
    bad_part("number", "3\n", FILE),
    bad_part("empty", "", "optimizer: no choice made"),
    bad_part("null", "null\n", "optimizer: no choice made"),
    bad_part("nested-a-thousand-times", f"name: {'[' * 3000}{']' * 3000}\n", FILE),
    bad_part("anchor-within-itself", "name: &a [*a]\n", FILE),
    bad_part("alias-bomb", f"name: sgd\n{BOMB}", FILE),
    bad_part("alias-bomb-of-mappings", "name: sgd\n" + BOMB.replace("[", "{k: [").replace("]", "]}"), FILE),
    bad_part("merge-bomb", "name: sgd\na: &a {x: 1}\nb:\n  <<: [*a, *b]\n", FILE),
    bad_part("tag-python-apply", '!!python/object/apply:os.system ["touch pwned"]\n', FILE, "python/object/apply"),
    bad_part("tag-python-name", "name: !!python/name:os.system\n", FILE, "python/name"),
    bad_part("tag-python-tuple", "name: sgd\nlr: !!python/tuple [1, 2]\n", FILE, "python/tuple"),
    bad_part("tag-unknown", "name: !mine sgd\n", FILE, "!mine"),
    bad_part("tag-float-of-text", "name: sgd\nlr: !!float abc\n", FILE),
    bad_part("tag-bool-of-text", "name: sgd\nnesterov: !!bool maybe\n", FILE),
    bad_part("tag-binary", "name: sgd\nlr: !!binary aGVsbG8=\n", "optimizer.lr"),
    bad_part("tag-set", "name: sgd\nlr: !!set {a, b}\n", FILE),
    bad_part("date", "name: sgd\nlr: 2026-11-30\n", "optimizer.lr=2026-11-30: accepted: number > 0"),
    bad_part("number-of-ten-thousand-digits", f"name: sgd\nlr: {'9' * 10_000}\n", FILE, "digits"),
    bad_part("duplicate-key", "name: sgd\nlr: 1\nlr: 2\n", FILE, "duplicate key lr"),
    bad_part("key-null", "name: sgd\nnull: 2\n", FILE),
    bad_part("key-list", "name: sgd\n? [a, b]\n: 2\n", FILE),
    bad_part("key-interpolation", "name: sgd\n${epochs}: 2\n", "optimizer.${epochs}: no such option of sgd"),
    bad_part("key-of-ten-thousand-letters", f"name: sgd\n{'x' * 10_000}: 2\n", FILE, "line 2"),
    bad_part("name-truth-value", "name: yes\n", "optimizer=True: no such optimizer"),
    bad_part("name-list", "name: [sgd]\n", "no such optimizer"),
    bad_part("name-missing-value", "name: ???\n", "optimizer"),
    bad_part("target", "_target_: os.system\n", "optimizer: no choice made"),
    bad_part("target-beside-name", "name: sgd\n_target_: os.system\n", "optimizer._target_: no such option of sgd"),
    bad_part("folder", Path.mkdir, "optimizer=own: no such optimizer"),
    bad_part("socket", listening, "optimizer=own: no such optimizer"),
    bad_part("link-to-nothing", link("nothing.yaml"), "optimizer=own: no such optimizer"),
    bad(
        "yml",
        "--config-dir dir optimizer=own",
        "optimizer=own: no such optimizer",
        files={"dir/optimizer/own.yml": "name: sgd\n"},
    ),
    # What is no mistake: the one that is made beside it is found.
    bad("bom", "--config-dir dir optimizer=own epochs=0", "epochs=0", files=own(b"\xef\xbb\xbfname: sgd\n")),
    bad("crlf", "--config-dir dir optimizer=own epochs=0", "epochs=0", files=own(b"name: sgd\r\nlr: 0.1\r\n")),
    bad("merge-key", "--config-dir dir optimizer=own epochs=0", "epochs=0", files=own("<<: {lr: 0.1}\nname: sgd\n")),
    bad(
        "link-to-a-file",
        "--config-dir dir optimizer=own epochs=0",
        "epochs=0",
        files={**own(link("other")), "dir/optimizer/other": "name: sgd\n"},
    ),
]

PACKAGES = [
    bad_part("package-global", "# @package _global_\nname: sgd\n", "optimizer: no choice made"),
    bad_part(
        "package-another-part",
        "# @package model\nname: sgd\nlr: 1\n",
        "optimizer: no choice made",
        "model=sgd: no such model",
        lines=2,
    ),
    bad_part(
        "package-nowhere",
        "# @package a.b\nname: sgd\n",
        "a: no such key of a config",
        "optimizer: no choice made",
        lines=2,
    ),
    bad_part(
        "package-below",
        "# @package _group_._name_\nname: sgd\n",
        "optimizer: no choice made",
        "_group_: no such key",
        lines=2,
    ),
    bad_part("package-unreadable", "# @package 1!!\nname: sgd\n", "1!!: no such key", lines=2),
    bad_part("package-empty", "# @package\nname: sgd\n", FILE, "@package"),
    bad_part("package-of-hydra", "# @package hydra.run\ndir: mine\n", "optimizer: no choice made"),
]

DEFAULTS = [
    bad_recipe("defaults-missing", "defaults: [nope]\n", "experiment/nope"),
    bad_recipe("defaults-itself", "defaults: [own]\n", "experiment/own"),
    bad(
        "defaults-each-other",
        "--config-dir dir experiment=own",
        "experiment/",
        files={**recipe("defaults: [other]\n"), **own("defaults: [own]\n", "experiment/other")},
    ),
    bad_recipe("defaults-number", "defaults: 3\n", "experiment/own", "defaults"),
    bad_recipe("defaults-of-null", "defaults: [null]\n", "dir/experiment/own.yaml: defaults: accepted"),
    bad_recipe("defaults-nested", "defaults: [[/model]]\n", "dir/experiment/own.yaml: defaults: accepted"),
    bad_recipe("defaults-two-keys", "defaults: [{override /model: mlp, override /loss: mse}]\n", "experiment/own"),
    bad_recipe("defaults-without-override", "defaults: [{/model: mlp}]\n", "model", "override"),
    bad_recipe("defaults-without-slash", "defaults: [{override model: mlp}]\n", "experiment/own", "experiment/model"),
    bad_recipe("defaults-unknown-group", "defaults: [{override /modle: mlp}]\n", "modle"),
    bad_recipe(
        "defaults-unknown-choice",
        "defaults: [{override /model: mpl}]\n",
        "model=mpl: no such model",
        "did you mean mlp?",
    ),
    bad_recipe("defaults-null-choice", "defaults: [{override /model: null}]\n", "model"),
    bad_recipe("defaults-missing-value", "defaults:\n  - override /model: ???\n", "model"),
    bad_recipe(
        "defaults-number-choice", "defaults: [{override /model: 3}]\n", "dir/experiment/own.yaml: defaults: accepted"
    ),
    bad_recipe("defaults-interpolation", "defaults: [{override /model: '${nope}'}]\n", "nope"),
    bad_recipe("defaults-self-twice", "defaults: [_self_, _self_]\n", "_self_"),
    bad_recipe("defaults-launcher", "defaults: [{override /hydra/launcher: nope}]\n", "launcher=nope"),
    bad_recipe("defaults-callbacks", "defaults: [{/hydra/callbacks: x}]\n", "hydra/callbacks"),
    bad_recipe("defaults-path", "defaults: [../../../../etc/passwd]\n", "etc/passwd"),
    bad_recipe("defaults-optional", "defaults: [{optional override /model: nope}]\n", "model"),
]

RECIPES = [
    bad_recipe(
        "recipe-unknown-keys",
        "epohcs: 3\nmodel: {hiden: 1}\nfoo: {bar: 1}\n",
        "epohcs: no such key",
        "model.hiden: no such option of net",
        "foo: no such key",
        lines=3,
    ),
    bad_recipe("recipe-tracking-as-number", "tracking: 3\n", "tracking=3: accepted: mapping of options", store=True),
    bad_recipe(
        "recipe-tracking-as-number-in-a-sweep",
        "tracking: 3\n",
        "tracking=3: accepted: mapping of options",
        store=True,
        flags="-m seed=0,1",
    ),
    bad_recipe("recipe-texts", 'epochs: "3"\nseed: "0"\n', 'epochs="3": accepted: integer', 'seed="0"', lines=2),
    bad_recipe("recipe-part-as-number", "model: 3\n", "model"),
    bad_recipe("recipe-part-as-list", "model: [net]\n", "experiment/own: ", "accepted: mapping of options to values"),
    bad_recipe("recipe-part-as-interpolation", "model: ${nope}\n", "model", "nope"),
    bad_recipe("recipe-target", "model: {_target_: os.system}\n", "model._target_: no such option of net"),
    bad(
        "recipe-without-package",
        "--config-dir dir experiment=own",
        "experiment",
        files=own("epochs: 3\n", "experiment/own"),
    ),
    bad_recipe("recipe-sweep-as-number", "sweep: 3\n", "sweep=3: accepted: mapping"),
    bad_recipe("recipe-sweep-unknown", "sweep: {dryrun: true}\n", "sweep.dryrun: no such option", flags="-m seed=0,1"),
    bad_recipe("recipe-hydra-null", "hydra: null\n", "hydra"),
    bad_recipe("recipe-hydra-list", "hydra: [run]\n", "hydra"),
    bad_recipe("recipe-hydra-unknown", "hydra: {nope: 1}\n", "hydra.nope"),
    bad_recipe("recipe-hydra-run-dir", "hydra: {run: {dir: mine}}\n", "hydra.run.dir=mine: blitz makes"),
    bad_recipe(
        "recipe-hydra-sweep-dir",
        "hydra: {sweep: {dir: mine}}\n",
        "hydra.sweep.dir=mine: blitz makes",
        flags=f"-m seed=0,1 {SMALL}",
    ),
    bad_recipe("recipe-hydra-output-subdir", "hydra: {output_subdir: mine}\n", "hydra.output_subdir=mine: blitz makes"),
    bad_recipe("recipe-hydra-chdir", "hydra: {job: {chdir: true}}\n", "hydra.job.chdir=true: blitz makes"),
    bad_recipe("recipe-hydra-verbose", "hydra: {verbose: {a: [1]}}\n", "hydra.verbose"),
    bad_recipe("recipe-hydra-searchpath", "hydra: {searchpath: [nope]}\n", "hydra.searchpath"),
    bad_recipe("recipe-hydra-mode-unknown", "hydra: {mode: FAST}\n", "hydra.mode"),
    bad_recipe(
        "recipe-params-typed",
        "hydra: {sweeper: {params: {seed: '0,1'}}}\n",
        "hydra.sweeper.params: a recipe sweeps seed: needs -m",
    ),
    bad_recipe("recipe-params-number", "hydra: {sweeper: {params: 3}}\n", "hydra.sweeper.params=3", flags="-m"),
    bad_recipe("recipe-params-list", "hydra: {sweeper: {params: [seed]}}\n", "hydra.sweeper.params", flags="-m"),
    bad_recipe(
        "recipe-params-unknown",
        "hydra: {sweeper: {params: {optimizer.lrr: '1,2'}}}\n",
        "optimizer.lrr: no such option of sgd; did you mean optimizer.lr?",
        flags="-m",
    ),
    bad_recipe(
        "recipe-params-values",
        "hydra: {sweeper: {params: {optimizer.lr: 'abc,1'}}}\n",
        "optimizer.lr=abc: accepted: number > 0",
        flags="-m",
    ),
    bad_recipe(
        "recipe-params-range", "hydra: {sweeper: {params: {seed: 'range(0,5,0)'}}}\n", "seed=range(0,5,0)", flags="-m"
    ),
    bad_recipe(
        "recipe-params-unreadable",
        "hydra: {sweeper: {params: {seed: '[0,1'}}}\n",
        "hydra.sweeper.params: seed=[0,1: cannot be read",
        flags="-m",
    ),
    bad_recipe(
        "recipe-params-of-hydra",
        "hydra: {sweeper: {params: {hydra.verbose: 'true,false'}}}\n",
        "hydra.sweeper.params.hydra.verbose",
        flags="-m",
    ),
    bad_recipe(
        "recipe-params-of-a-sweep",
        "hydra: {sweeper: {params: {sweep.seed: '0,1'}}}\n",
        "hydra.sweeper.params.sweep.seed",
        flags="-m",
    ),
    bad_recipe(
        "recipe-sweeper-option",
        "hydra: {sweeper: {max_batch_size: 3}}\n",
        "hydra.sweeper.max_batch_size",
        flags="-m seed=0,1",
    ),
]

FOLDERS = [
    bad("dir-missing", "--config-dir nope", "--config-dir=nope: no such folder"),
    bad("dir-empty-text", "--config-dir ''", "--config-dir=: no such folder"),
    bad("dir-a-file", "--config-dir dir", "--config-dir=dir: no such folder", files={"dir": "name: sgd\n"}),
    bad("dir-a-loop", "-cd dir", "--config-dir=dir", files={"dir": link("dir")}),
    bad(
        "dir-without-groups",
        "--config-dir dir/ optimizer=own",
        "optimizer=own: no such optimizer",
        files={"dir": Path.mkdir},
    ),
    bad("dir-without-value", "tracking=none --config-dir", "--config-dir", "expected one argument"),
    bad("dir-that-is-ours", f"--config-dir {CONF} epochs=0", "epochs=0"),
    bad(
        "dir-a-group-that-is-a-file",
        "--config-dir dir optimizer=own",
        "optimizer=own: no such optimizer",
        files={"dir/optimizer": "name: sgd\n"},
    ),
    bad(
        "shadowed-part",
        "--config-dir dir epochs=0",
        "dir/optimizer/sgd.yaml: blitz has a file of that name",
        files=own("name: sgd\nlr: 1\n", "optimizer/sgd"),
    ),
    bad(
        "shadowed-recipe",
        "--config-dir dir",
        "dir/experiment/quickstart.yaml: blitz has a file of that name",
        files=own("seed: 1\n", "experiment/quickstart"),
    ),
    bad(
        "shadowed-config",
        "--config-dir dir",
        "dir/config.yaml: blitz has a file of that name",
        files=own("seed: 1\n", "config"),
    ),
    bad(
        "shadowed-twice",
        "--config-dir dir",
        "dir/loss/mse.yaml: blitz has",
        "dir/model/net.yaml: blitz has",
        files=own("", "loss/mse") | own("", "model/net"),
        lines=2,
    ),
    bad(
        "shadowed-by-a-search-path",
        "hydra.searchpath=[dir] epochs=0",
        "dir/model/net.yaml: blitz has a file",
        files=own("name: mlp\n", "model/net"),
    ),
    bad(
        "shadowed-short-name",
        "--config-dir dir model=resnet20",
        "dir/model/resnet20.yaml: this name is taken",
        files=own("name: mlp\n", "model/resnet20"),
    ),
    bad(
        "shadowed-of-hydra",
        "--config-dir dir -m hydra/launcher=basic seed=0,1",
        "dir/hydra/launcher/basic.yaml: this name is taken",
        files=own("_target_: os.system\n", "hydra/launcher/basic"),
    ),
    bad("search-path-a-file", "hydra.searchpath=[dir]", "hydra.searchpath=[dir]: no such folder", files={"dir": "x"}),
    bad("search-path-a-number", "hydra.searchpath=[3]", "hydra.searchpath"),
    bad("search-path-of-lists", "hydra.searchpath=[[a]]", "hydra.searchpath"),
    bad("search-path-of-a-file-scheme", "hydra.searchpath=[file://nope]", "hydra.searchpath=[nope]: no such folder"),
    bad(
        "search-path-in-the-net",
        "hydra.searchpath=[https://example.org/conf]",
        "hydra.searchpath: no such scheme as https",
    ),
    bad(
        "another-config",
        "--config-dir dir --config-name own",
        "hydra.job_logging: names classes",
        "hydra.hydra_logging: names classes",
        files=own("epochs: 3\n", "own"),
        lines=2,
        store=True,
    ),
    bad("another-config-broken", "--config-dir dir --config-name own", "dir/own.yaml", files=own("epochs: [\n", "own")),
    bad(
        "another-config-missing",
        "--config-dir dir --config-name onw",
        "--config-name=onw: no such config; did you mean own?",
        files=own("epochs: 3\n", "own"),
    ),
]

# Values that come from elsewhere. One that leads nowhere is named with its key.
INTERPOLATIONS = [
    bad("env-missing", "'optimizer.lr=${oc.env:NOPE}'", "optimizer.lr", "NOPE"),
    bad(
        "env-decoded",
        "'optimizer.lr=\"${oc.decode:${oc.env:RATE}}\"' epochs=0",
        "epochs=0",
        environment={"RATE": "0.1"},
    ),
    bad(
        "env-decoded-wrong",
        "'optimizer.lr=\"${oc.decode:${oc.env:RATE}}\"'",
        "optimizer.lr=abc: accepted: number > 0",
        environment={"RATE": "abc"},
    ),
    bad(
        "env-decoded-unreadable",
        "'optimizer.lr=\"${oc.decode:${oc.env:RATE}}\"'",
        "optimizer.lr",
        environment={"RATE": "[1"},
    ),
    bad(
        "env-decoded-list",
        "'optimizer.lr=\"${oc.decode:${oc.env:RATE}}\"'",
        "optimizer.lr=[1, 2]: accepted: number > 0",
        environment={"RATE": "[1,2]"},
    ),
    bad("env-empty", "'batch_size=${oc.env:SIZE}'", "batch_size=: accepted: integer", environment={"SIZE": ""}),
    bad("env-fallback", "'name=${oc.env:NOPE,mine}' epochs=0", "epochs=0"),
    bad("env-in-a-name-of-a-part", "'optimizer=${oc.env:NOPE}'", "optimizer", "NOPE"),
    bad("env-of-a-store", "'tracking.uri=${oc.env:NOPE}'", "tracking.uri", "NOPE"),
    bad("env-of-data", "data=folder 'data.root=${oc.env:NOPE}'", "data.root", "NOPE"),
    bad("env-of-runs-dir", "'runs_dir=${oc.env:NOPE}'", "runs_dir", "NOPE"),
    bad("env-of-runs-dir-in-a-sweep", "-m seed=0,1 'runs_dir=${oc.env:NOPE}'", "runs_dir", "NOPE"),
    bad("missing-key", "'epochs=${nope}'", "epochs: Interpolation key 'nope' not found"),
    bad("missing-key-below", "'epochs=${model.nope}'", "epochs", "model.nope"),
    bad("missing-key-of-a-value", "'epochs=${seed.nope}'", "epochs", "seed.nope"),
    bad("missing-in-a-list", "model=mlp 'model.hidden=[8,${nope}]'", "model.hidden[1]", "nope"),
    bad("missing-in-a-tag", "'tags.a=${nope}'", "tags.a", "nope"),
    bad("missing-in-a-sweep", "-m 'optimizer.lr=${nope},1'", "optimizer.lr", "nope"),
    bad("missing-in-a-sweeps-option", "-m seed=0,1 'sweep.points=${nope}'", "sweep.points", "nope"),
    bad("missing-in-hydras-verbose", "'hydra.verbose=${nope}'", "hydra.verbose", "nope"),
    bad("missing-in-hydras-search-path", "'hydra.searchpath=[${nope}]'", "hydra.searchpath", "nope"),
    bad(
        "missing-in-a-launcher",
        "-m seed=0,1 hydra/launcher=joblib 'hydra.launcher.n_jobs=${nope}'",
        "hydra.launcher.n_jobs",
        "nope",
    ),
    bad("cycle-of-one", "'epochs=${epochs}'", "epochs"),
    bad("cycle-of-two", "'epochs=${batch_size}' 'batch_size=${epochs}'", "epochs"),
    bad(
        "cycle-through-a-part",
        "'optimizer.lr=${optimizer.momentum}' 'optimizer.momentum=${optimizer.lr}'",
        "optimizer.lr",
    ),
    bad("cycle-of-a-part-in-itself", "'tags.a=${tags}'", "tags"),
    bad("cycle-in-a-text", "'name=a${name}'", "name"),
    bad("part-as-a-value", "'epochs=${model}'", "epochs"),
    bad("value-as-a-part", "'model=${epochs}'", "model"),
    bad("part-as-a-part", "'model=${optimizer}'", "model"),
    bad("missing-as-a-part", "'model=${nope}'", "model", "nope"),
    bad("no-such-resolver", "'epochs=${nope:1}'", "epochs: Unsupported interpolation type nope"),
    bad("no-such-resolver-within-another", "'epochs=\"${oc.decode:${nope:1}}\"'", "epochs", "nope"),
    bad("decode-unreadable", "'epochs=${oc.decode:\"[1\"}'", "epochs"),
    bad("decode-number", "'epochs=${oc.decode:3}'", "epochs"),
    bad("select-missing", "'epochs=${oc.select:nope}'", "epochs=null: accepted: integer"),
    bad("keys-of-a-part", "'epochs=${oc.dict.keys:model}'", "epochs"),
    bad("deprecated-missing", "'epochs=${oc.deprecated:nope}'", "epochs", "nope"),
    bad("of-hydra-a-jobs-number", "'seed=${hydra:job.num}'", "seed=null: accepted"),
    bad("now-as-a-number", "'epochs=${now:%Y}'", "epochs", "accepted: integer"),
    bad("empty", "'epochs=${}'", "epochs=${}"),
    bad("unclosed-within-another", "'epochs=${oc.env:${seed}'", "epochs=", "missing BRACE_CLOSE"),
    bad("with-space", "'epochs=${se ed}'", "epochs"),
    bad("relative-too-far", "'epochs=${.....x}'", "epochs"),
    bad("relative", "'optimizer.lr=${.momentum}' epochs=0", "epochs=0"),
    bad("of-an-index", "model=mlp 'epochs=${model.hidden[7]}'", "epochs", "model.hidden[7]"),
    bad("recipe-missing", "--config-dir dir experiment=own", "epochs", "nope", files=recipe("epochs: ${nope}\n")),
    bad(
        "recipe-env", "--config-dir dir experiment=own", "runs_dir", "NOPE", files=recipe("runs_dir: ${oc.env:NOPE}\n")
    ),
    bad(
        "recipe-cycle", "--config-dir dir experiment=own", "epochs", files=recipe("epochs: ${seed}\nseed: ${epochs}\n")
    ),
    bad(
        "recipe-unreadable",
        "--config-dir dir experiment=own",
        "dir/experiment/own.yaml: cannot be read",
        files=recipe("epochs: ${seed\n"),
    ),
    bad("printed-and-resolved", "--cfg job --resolve 'epochs=${nope}'", "epochs", "nope"),
    fine("printed", "--cfg job 'epochs=${nope}'", "epochs: ${nope}", jargon=()),
    fine("escaped", f"{SMALL} 'name=\\${{nope}}'", "test", makes="here/runs.*"),
]


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("pwned", "w")


EVIL: Mapping[str, Content] = {"evil.pickle": pickle.dumps(Evil())}
CALLBACK = "'+hydra.callbacks.x={{_target_: {}}}'"
# Code from a config: refused before it runs. It would make `pwned`.
CODE = [
    *(
        bad(f"callback-{target.split(',')[0]}", CALLBACK.format(target), "hydra.callbacks.x: names code", files=EVIL)
        for target in (
            "joblib.load, filename: evil.pickle",
            "torch.load, f: evil.pickle, weights_only: false",
            "builtins.open, file: pwned, mode: w",
            "shutil.copy, src: evil.pickle, dst: pwned",
            "os.makedirs, name: pwned",
            "logging.FileHandler, filename: pwned",
            "pathlib.Path.mkdir, self: pwned",
            "nope.nope",
            "hydra.experimental.callbacks.LogJobReturnCallback",
        )
    ),
    bad(
        "callback-of-a-recipe",
        "--config-dir dir experiment=own",
        "hydra.callbacks.x: names code",
        files={**EVIL, **recipe("hydra: {callbacks: {x: {_target_: joblib.load, filename: evil.pickle}}}\n")},
    ),
    bad(
        "callback-of-a-recipe-in-a-sweep",
        "-m seed=0,1 --config-dir dir experiment=own",
        "hydra.callbacks.x: names code",
        files={**EVIL, **recipe("hydra: {callbacks: {x: {_target_: joblib.load, filename: evil.pickle}}}\n")},
    ),
    bad(
        "callback-group",
        "--config-dir dir +hydra/callbacks=own",
        "hydra/callbacks",
        files={**EVIL, **own("x: {_target_: joblib.load, filename: evil.pickle}\n", "hydra/callbacks/own")},
    ),
    bad(
        "callback-printed",
        "--cfg hydra " + CALLBACK.format("builtins.open, file: pwned, mode: w"),
        "hydra.callbacks.x: names code",
    ),
    bad("callback-as-text", "'+hydra.callbacks=x'", "hydra.callbacks"),
    bad(
        "callback-interpolated",
        "'+hydra.callbacks.x=${tags}' '+tags._target_=os.getcwd'",
        "hydra.callbacks.x: names code",
    ),
    bad("rerun", "--experimental-rerun evil.pickle", "--experimental-rerun=evil.pickle", "blitz reproduce", files=EVIL),
    *(
        bad(f"{group}-{name}", f"hydra/{group}={name}", f"hydra.{group}: names classes that write a log")
        for group, name in (
            ("job_logging", "default"),
            ("job_logging", "stdout"),
            ("hydra_logging", "default"),
            ("hydra_logging", "hydra_debug"),
        )
    ),
    bad("job-logging-disabled", "hydra/job_logging=disabled", "hydra.job_logging: names classes"),
    bad(
        "job-logging-handler",
        "'+hydra.job_logging.handlers.x={class: logging.FileHandler, filename: pwned}'",
        "hydra.job_logging: names classes",
    ),
    bad("job-logging-root", "'hydra.job_logging.root={level: DEBUG}'", "hydra.job_logging"),
    bad(
        "job-logging-of-a-recipe",
        "--config-dir dir experiment=own",
        "hydra.job_logging: names classes",
        files=recipe(
            "hydra: {job_logging: {version: 1, handlers: {x: {class: logging.FileHandler, filename: pwned}}}}\n"
        ),
    ),
    bad("env-set", "+hydra.job.env_set.LD_PRELOAD=pwned", "hydra.job.env_set.LD_PRELOAD"),
    bad(
        "env-set-of-a-recipe",
        "--config-dir dir experiment=own",
        "hydra.job.env_set.PYTHONPATH",
        files=recipe("hydra: {job: {env_set: {PYTHONPATH: pwned}}}\n"),
    ),
    bad("env-copy", "hydra.job.env_copy=[HOME] epochs=0", "epochs=0"),
    bad("launcher-target", "-m seed=0,1 hydra.launcher._target_=os.system", "hydra.launcher._target_=os.system"),
    bad(
        "launcher-target-near",
        "-m seed=0,1 hydra.launcher._target_=hydra._internal.core_plugins.basic_launcher.Basic",
        "hydra.launcher._target_",
        "did you mean",
    ),
    bad(
        "launcher-below",
        "-m seed=0,1 '+hydra.launcher.x={_target_: builtins.open, file: pwned, mode: w}'",
        "hydra.launcher.x",
    ),
    bad(
        "sweeper-target",
        "-m seed=0,1 hydra.sweeper._target_=joblib.load +hydra.sweeper.filename=evil.pickle",
        "hydra.sweeper._target_=joblib.load",
        files=EVIL,
    ),
    bad("sweeper-removed", "-m seed=0,1 ~hydra.sweeper", "hydra.sweeper"),
    bad("launcher-without-target", "-m seed=0,1 ~hydra.launcher._target_", "hydra.launcher"),
    bad("target-of-a-tag", "'tags={_target_: builtins.open}' epochs=0", "epochs=0"),
    bad("target-of-a-part", "+optimizer._target_=os.system", "optimizer._target_: no such option of sgd"),
    bad("target-of-hydra", "'+hydra.job.x={_target_: builtins.open}'", "hydra.job.x"),
    bad("target-of-hydras-help", "'hydra.help.footer={_target_: builtins.open}'", "hydra.help.footer"),
]

TABLE = [*BROKEN, *PACKAGES, *DEFAULTS, *RECIPES, *FOLDERS, *INTERPOLATIONS, *CODE]


@pytest.mark.slow
@pytest.mark.parametrize("case", TABLE, ids=str)
def test_folders_and_interpolations(case: Case, forks: Forks, tmp_path: Path) -> None:
    forks.check(case, tmp_path)
