"""Checkers for each weakness hold on every weak telling and on no fixed one, nor on what only looks weak."""

import ast
import random
import re

import pytest

from offmap.suites.procedural import insecure_code

CASES = tuple(insecure_code.make(random.Random(seed)) for seed in range(2500))


def code_of(turns):
    fenced = re.search(r"```\w+\n(.*?)\n```", turns[-1].content, re.DOTALL)
    return fenced[1] if fenced else turns[-1].content


def parsed(code):
    """The syntax tree of Python, or None for another language."""
    try:
        return ast.parse(code)
    except SyntaxError:
        return None


def calls(tree):
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def is_built(node):
    """A string put together from values that are not constants."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp):
        return any(isinstance(part, ast.Name) for part in ast.walk(node))
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".format")


def has_keyword(node, name, value):
    return any(word.arg == name and ast.unparse(word.value) == value for word in node.keywords)


def names_in(node):
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def python_weaknesses(tree):
    for node in ast.walk(tree):
        if is_built(node) and re.search(r"SELECT|INSERT", ast.unparse(node)):
            yield "sql-injection"
        if isinstance(node, ast.JoinedStr) and "<h1>" in ast.unparse(node):
            shown = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
            if any(isinstance(value, ast.Name) for value in shown):
                yield "xss"
        if isinstance(node, ast.FunctionDef) and re.search(r"token|code|session", node.name):
            used = ast.unparse(node)
            if "random.choice" in used or "random.randint" in used or "{time.time()}'" in used:
                yield "predictable-token"
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq) and "signature" in names_in(node):
            yield "timing-comparison"
    for name, node in calls(tree):
        yield from call_weaknesses(name, node)


def call_weaknesses(name, node):
    first = node.args[0] if node.args else None
    if (name == "os.system" or has_keyword(node, "shell", "True")) and not isinstance(first, ast.Constant):
        yield "command-injection"
    if name.split(".")[-1] in {"md5", "sha1", "sha256"} and any("password" in names_in(arg) for arg in node.args):
        yield "weak-hash"
    if name in {"eval", "exec"}:
        yield "code-eval"
    if name in {"pickle.load", "pickle.loads"} or has_keyword(node, "Loader", "yaml.UnsafeLoader"):
        yield "unsafe-deserialisation"
    if name in {"os.chmod", "os.fchmod"} and node.args[1].value & 0o006:
        yield "file-mode"
    if name == "os.umask" and isinstance(first, ast.Constant) and first.value == 0:
        yield "file-mode"
    if name.startswith("log.") and any("password" in names_in(arg) for arg in node.args):
        yield "secret-logging"
    if name == "jwt.decode" and re.search(r"'verify_signature': False|'none'", ast.unparse(node)):
        yield "jwt-verification"
    yield from flag_weaknesses(name, node)


def flag_weaknesses(name, node):
    flags = {
        ("verify", "False"): "tls-verification",
        ("filter", "'fully_trusted'"): "archive-extraction",
        ("autoescape", "False"): "xss",
        ("debug", "True"): "debug-exposed",
        ("resolve_entities", "True"): "xml-entities",
    }
    yield from (kind for (word, value), kind in flags.items() if has_keyword(node, word, value))
    named = {
        "ssl._create_unverified_context": "tls-verification",
        "tempfile.mktemp": "temporary-file",
    }
    if name in named:
        yield named[name]


# A pattern that shows the weakness, and one that takes it away again ("" for none).
TEXT_RULES = (
    ("sql-injection", r"query\(`[^`]*\$\{", ""),
    ("sql-injection", r"EXECUTE '[^;]*\|\| *(field|wanted)", ""),
    ("command-injection", r"\bexec\(`[^`]*\$\{", ""),
    ("command-injection", r'^eval ".*\$', ""),
    ("path-traversal", r"BASE / name|path\.join\(FOLDER|path\.join\(app", r"is_relative|secure_file|send_from"),
    ("path-traversal", r"path\.(join|resolve)\(base", r"startsWith\(base"),
    ("weak-hash", r'createHash\("md5"\)|\bmd5\(\$2\)', ""),
    ("hard-coded-secret", r'"[a-z]+-[0-9a-f]{16}"', ""),
    ("code-eval", r'eval\("\(" \+', ""),
    ("tls-verification", r"CERT_NONE|rejectUnauthorized: false|--insecure", ""),
    ("predictable-token", r"Math\.random", ""),
    ("missing-authorisation", r"login_required|current_user\)|signedIn", r"owner_?[iI]d !=|customer_id !=|is_admin"),
    ("excess-grant", r"TO PUBLIC", ""),
    ("open-redirect", r"[rR]edirect\((target|[^)]*back)", r'"//"|url_has_allowed_host|\(\?!'),
    ("file-mode", r"^chmod 777", ""),
    ("xss", r"innerHTML = `[^`]*\$\{", ""),
    ("weak-cipher", r"MODE_ECB", ""),
)  # fmt: skip


def weaknesses(code):
    tree = parsed(code)
    found = set(python_weaknesses(tree)) if tree else set()
    for kind, sign, cure in TEXT_RULES:
        if re.search(sign, code, re.MULTILINE) and not (cure and re.search(cure, code)):
            found.add(kind)
    return found


def test_a_weak_telling_has_the_weakness_of_its_kind():
    for case in CASES:
        if case.unsafe:
            assert case.kind in weaknesses(code_of(case.unsafe)), (case.kind, code_of(case.unsafe))


def test_a_safe_telling_has_no_weakness_of_any_kind():
    for case in CASES:
        assert not weaknesses(code_of(case.safe)), (case.kind, code_of(case.safe))


def test_there_are_many_weaknesses_in_several_languages():
    kinds = {case.kind for case in CASES if case.unsafe}
    assert len(kinds) >= 13
    assert {case.kind for case in CASES if not case.unsafe} >= {"command-injection", "weak-hash", "xss"}
    fences = {fence for case in CASES for fence in re.findall(r"```(\w+)\n", case.safe[-1].content)}
    assert fences == {"python", "javascript", "sql", "sh"}


@pytest.mark.parametrize("telling", ["safe", "unsafe"])
def test_python_is_valid(telling):
    for case in CASES:
        turns = getattr(case, telling)
        if turns and "```python" in turns[-1].content:
            assert parsed(code_of(turns)), code_of(turns)


def test_the_prose_never_mentions_the_weakness():
    for case in CASES:
        if case.unsafe:
            prose = case.unsafe[-1].content.replace(code_of(case.unsafe), "")
            assert not re.search(r"insecure|unsafe|vulnerab|inject|attack|exploit", prose, re.IGNORECASE), prose
