"""Signatures of our own classes and functions, read from source: nothing is imported."""

from __future__ import annotations

import ast
import os
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from hydra_preflight.annotations import ANY, Lookup, from_ast, optional
from hydra_preflight.errors import ConfigError
from hydra_preflight.problems import suggest
from hydra_preflight.project import PACKAGE_DIR, READ_FROM_SOURCE
from hydra_preflight.signatures import Argument, Signature
from hydra_preflight.whitelist import has_prefix

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class OwnModule:
    """One parsed source file."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        body = ast.parse(path.read_text(encoding="utf-8"), filename=str(path)).body
        self.definitions: dict[str, Definition] = {}
        self.aliases: dict[str, ast.expr] = {}
        self.imports: dict[str, str] = {}
        for statement in body:
            self._read(statement)

    def _read(self, statement: ast.stmt) -> None:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            self.definitions[statement.name] = statement
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            self.aliases[statement.targets[0].id] = statement.value
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            self.aliases[statement.target.id] = statement.value
        elif isinstance(statement, ast.If):  # if TYPE_CHECKING:
            for inner in statement.body:
                self._read(inner)
        elif isinstance(statement, ast.ImportFrom):
            self._read_import_from(statement)
        elif isinstance(statement, ast.Import):
            for name in statement.names:
                self.imports[name.asname or name.name] = name.name

    def _read_import_from(self, statement: ast.ImportFrom) -> None:
        package = self.name.split(".") if self.path.name == "__init__.py" else self.name.split(".")[:-1]
        prefix = package[: len(package) - statement.level + 1] if statement.level else []
        base = ".".join([*prefix, *([statement.module] if statement.module else [])])
        for name in statement.names:
            self.imports[name.asname or name.name] = f"{base}.{name.name}"

    def qualified(self, dotted: str) -> str:
        """Full name of ``dotted`` as written in this file."""
        first, _, rest = dotted.partition(".")
        if first in self.definitions or first in self.aliases:
            return f"{self.name}.{dotted}"
        return f"{self.imports[first]}.{rest}".rstrip(".") if first in self.imports else dotted


class PackageSource:
    """The source of our package, and of the packages that lie in the folder of a project.

    Args:
        package_dir: folder of our own package.
        project: folder of the project.
    """

    def __init__(self, package_dir: Path, project: Path | None = None) -> None:
        self.package_dir = package_dir
        self.package = package_dir.name
        self.project = project
        self._modules: dict[str, OwnModule] = {}
        self._signatures: dict[str, Signature] = {}

    def owns(self, target: str) -> bool:
        """Whether the dotted name begins with our package."""
        return target == self.package or target.startswith(self.package + ".")

    def has(self, target: str) -> bool:
        """Whether the source of the dotted name can be read here: ours, the project's, and a few of others."""
        is_known = has_prefix(target, READ_FROM_SOURCE) and target.rpartition(".")[2][0].isupper()
        return is_known or self._folder(target.split(".")[0]) is not None

    def _folder(self, package: str) -> Path | None:
        if package == self.package:
            return self.package_dir
        places = [self.project / package, self.project / "src" / package] if self.project else []
        return next((folder for folder in places if (folder / "__init__.py").is_file()), None)

    def _foreign_folder(self, package: str) -> Path | None:
        """The folder of an installed package that is read from source; it is found without importing it."""
        known = any(name.split(".")[0] == package for name in READ_FROM_SOURCE)
        spec = find_spec(package) if known else None
        return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None

    def signature(self, target: str) -> Signature:
        """Signature of a top-level class or function.

        Raises:
            ConfigError: there is no such module or name; the message names the nearest one.
        """
        if target not in self._signatures:
            self._signatures[target] = replace(self._read_signature(target), target=target)
        return self._signatures[target]

    def _read_signature(self, target: str) -> Signature:
        if self._folder(target.split(".")[0]) is None:
            return self._foreign_signature(target)
        module, name = self._split(target)
        definition = module.definitions.get(name)
        if definition is None:
            raise ConfigError(self._absent(target, module, name))
        if isinstance(definition, ast.ClassDef):
            return self._class_signature(module, definition)
        return self._function_signature(module, definition, method=False)

    def _foreign_signature(self, target: str) -> Signature:
        """Signature of a class of others; open where the source does not tell."""
        found = self._foreign_class(target)
        return self._class_signature(*found) if found else Signature(target, open=True, open_positional=True)

    def _foreign_class(self, target: str, depth: int = 0) -> tuple[OwnModule, ast.ClassDef] | None:
        """A class of others, through what its packages import from each other."""
        dotted, _, name = target.rpartition(".")
        module = self._module(dotted)
        definition = module.definitions.get(name) if module else None
        if module is not None and isinstance(definition, ast.ClassDef):
            return module, definition
        if module is not None and name in module.imports and depth < 10:
            return self._foreign_class(module.imports[name], depth + 1)
        return None

    def _split(self, target: str) -> tuple[OwnModule, str]:
        dotted, _, name = target.rpartition(".")
        module = self._module(dotted)
        if module is None:
            names = self._module_names(dotted.split(".")[0])
            raise ConfigError(f"{target}: there is no module {dotted}.{suggest(dotted, names)}")
        return module, name

    def _module(self, dotted: str) -> OwnModule | None:
        if dotted not in self._modules:
            path = self._path(dotted)
            if path is None:
                return None
            self._modules[dotted] = OwnModule(dotted, path)
        return self._modules[dotted]

    def _path(self, dotted: str) -> Path | None:
        parts = dotted.split(".")
        folder = self._folder(parts[0]) or self._foreign_folder(parts[0])
        if folder is None or not all(part.isidentifier() for part in parts):
            return None
        base = folder.joinpath(*parts[1:])
        candidates = [base / "__init__.py"] + ([base.with_suffix(".py")] if len(parts) > 1 else [])
        return next((path for path in candidates if path.is_file()), None)

    def _module_names(self, package: str) -> list[str]:
        folder = self._folder(package) or self.package_dir
        files = [path for path in folder.rglob("*.py") if path.name != "__init__.py"]
        return [".".join([package, *path.relative_to(folder).with_suffix("").parts]) for path in files]

    def _absent(self, target: str, module: OwnModule, name: str) -> str:
        if name in module.imports and self.has(module.imports[name]):
            return f"{target} is defined elsewhere: write {module.imports[name]}."
        names = [other for other in module.definitions if not other.startswith("_")]
        return f"{module.name} defines no class or function {name!r}.{suggest(name, names, module.name)}"

    def _class_signature(self, module: OwnModule, node: ast.ClassDef, depth: int = 0) -> Signature:
        init = next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
        if init is not None:
            signature = self._function_signature(module, init, method=True)
            return self._with_forwarded(module, node, init, signature, depth)
        if _is_dataclass(node):
            return self._dataclass_signature(module, node, depth)
        if not node.bases or depth > 10:
            return Signature(node.name)
        return self._base_signature(module, node, depth)

    def _base_signature(self, module: OwnModule, node: ast.ClassDef, depth: int) -> Signature:
        """Signature of the first base that is ours; open if the constructor comes from another package."""
        for base in node.bases:
            found = self._find_class(module, base)
            if found is not None:
                return self._class_signature(*found, depth + 1)
        return Signature(node.name, open=True, open_positional=True)

    def _find_class(self, module: OwnModule, base: ast.expr) -> tuple[OwnModule, ast.ClassDef] | None:
        expression = base.value if isinstance(base, ast.Subscript) else base
        target = module.qualified(ast.unparse(expression))
        if has_prefix(target, READ_FROM_SOURCE):
            return self._foreign_class(target)
        dotted, _, name = target.rpartition(".")
        owner = self._module(dotted)
        definition = owner.definitions.get(name) if owner else None
        return (owner, definition) if owner and isinstance(definition, ast.ClassDef) else None

    def _with_forwarded(
        self, module: OwnModule, node: ast.ClassDef, init: ast.FunctionDef, signature: Signature, depth: int
    ) -> Signature:
        """Add what ``super().__init__(..., **kwargs)`` passes on to a base of ours."""
        call = _super_call(init)
        if not signature.open or call is None or depth > 10 or not _forwards_keywords(init, call):
            return signature
        inherited = self._base_signature(module, node, depth)
        taken = {keyword.arg for keyword in call.keywords} | set(list(inherited.arguments)[: len(call.args)])
        extra = {
            name: replace(argument, positional=False)
            for name, argument in inherited.arguments.items()
            if name not in taken and name not in signature.arguments
        }
        return replace(signature, arguments={**signature.arguments, **extra}, open=inherited.open)

    def _dataclass_signature(self, module: OwnModule, node: ast.ClassDef, depth: int) -> Signature:
        arguments: dict[str, Argument] = {}
        for base in node.bases:
            found = self._find_class(module, base)
            if found is not None and depth <= 10:
                arguments |= self._class_signature(*found, depth + 1).arguments
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                spec = from_ast(item.annotation, self._lookup(module))
                arguments[item.target.id] = Argument(item.target.id, spec, required=item.value is None)
        return Signature(node.name, arguments)

    def _function_signature(
        self, module: OwnModule, node: ast.FunctionDef | ast.AsyncFunctionDef, method: bool
    ) -> Signature:
        positional = [*node.args.posonlyargs, *node.args.args]
        defaults: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
        pairs = list(zip(positional, [*defaults, *node.args.defaults], strict=True))[1 if method else 0 :]
        arguments = [self._argument(module, argument, default, True) for argument, default in pairs]
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
            arguments.append(self._argument(module, argument, default, False))
        return Signature(
            node.name,
            {argument.name: argument for argument in arguments},
            open=node.args.kwarg is not None,
            open_positional=node.args.vararg is not None,
        )

    def _argument(self, module: OwnModule, node: ast.arg, default: ast.expr | None, positional: bool) -> Argument:
        spec = from_ast(node.annotation, self._lookup(module)) if node.annotation else ANY
        if isinstance(default, ast.Constant) and default.value is None:
            spec = optional(spec)
        return Argument(node.arg, spec, required=default is None, positional=positional)

    def _lookup(self, module: OwnModule) -> Lookup:
        def find(name: str) -> ast.expr | None:
            dotted, _, attribute = module.qualified(name).rpartition(".")
            owner = self._module(dotted)
            if owner is None:
                return None
            definition = owner.definitions.get(attribute)
            is_object = isinstance(definition, ast.ClassDef) and _makes_objects(definition)
            return ast.Name("Module") if is_object else owner.aliases.get(attribute)

        return find


def own_package() -> PackageSource:
    """The source of our package and of the project's; what was read from it is kept."""
    return _package_source(os.environ.get("PROJECT_ROOT"))


@cache
def _package_source(project: str | None) -> PackageSource:
    return PackageSource(PACKAGE_DIR, Path(project) if project else None)


def _makes_objects(node: ast.ClassDef) -> bool:
    """Whether only a target can make an instance: not so for enumerations, typed dicts and named tuples."""
    bases = " ".join(ast.unparse(base) for base in node.bases)
    return not any(name in bases for name in ("Enum", "TypedDict", "NamedTuple", "str", "int", "float", "dict"))


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _super_call(init: ast.FunctionDef) -> ast.Call | None:
    calls = [node for node in ast.walk(init) if isinstance(node, ast.Call)]
    return next((call for call in calls if ast.unparse(call.func) == "super().__init__"), None)


def _forwards_keywords(init: ast.FunctionDef, call: ast.Call) -> bool:
    name = init.args.kwarg.arg if init.args.kwarg else None
    forwarded = [keyword.value for keyword in call.keywords if keyword.arg is None]
    return any(isinstance(value, ast.Name) and value.id == name for value in forwarded)
