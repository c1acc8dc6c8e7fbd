"""Check a request against the contract: scopes, path, query, body, all read from the OpenAPI file.

Nothing about one operation stands here: what the contract declares is enforced as it is declared. Rules the contract
cannot express (balance, open years) belong to the modules of the records.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema_rs
import orjson

from kash_pipeline import contracts
from kash_pipeline.sandbox.pennylane.answers import bad_request

API = "/api/external/v2"

# Error kinds of JSON Schema to the codes of a 400 (pennylane-api.md section 6). Which code PennyLane gives for which
# failure is our reading of their names.
_CODES = {
    "additionalProperties": "NotExistPropertyDefinition",
    "required": "NotExistRequiredKey",
    "enum": "NotEnumInclude",
    "constant": "NotEnumInclude",
    "const": "NotEnumInclude",
    "pattern": "InvalidPattern",
    "minimum": "LessThanMinimum",
    "maximum": "MoreThanMaximum",
    "minItems": "LessThanMinItems",
    "maxItems": "MoreThanMaxItems",
    "minLength": "LessThanMinLength",
    "maxLength": "MoreThanMaxLength",
    "anyOf": "NotAnyOf",
    "oneOf": "NotOneOf",
}
_FORMAT_CODES = {
    "date": "InvalidDateFormat",
    "date-time": "InvalidDateTimeFormat",
    "email": "InvalidEmailFormat",
    "uuid": "InvalidUUIDFormat",
}


@dataclass(frozen=True)
class Parameter:
    name: str
    place: str
    required: bool
    schema: dict[str, Any]
    validator: Any
    content: Any  # validator of the decoded JSON, for `filter`


@dataclass(frozen=True)
class Operation:
    """One operation of the contract, ready to check requests."""

    id: str
    method: str
    path: str
    scopes: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    body: Any
    media_type: str | None
    old_paging_keys: bool

    def check_parameters(self, path: Mapping[str, str], query: Mapping[str, str]) -> dict[str, Any]:
        """Typed path and query values with the contract's defaults; `filter` comes decoded. Raises a 400."""
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            text = (path if parameter.place == "path" else query).get(parameter.name)
            if text is None:
                if parameter.required:
                    raise bad_request(f"missing required parameters: {parameter.name}", "NotExistRequiredKey")
                if "default" in parameter.schema:
                    values[parameter.name] = parameter.schema["default"]
                continue
            value = _typed(text, parameter)
            _check(parameter.validator, value, parameter.name)
            if parameter.content is not None:
                try:
                    value = orjson.loads(text)
                except orjson.JSONDecodeError:
                    raise bad_request(f"{parameter.name} is not valid JSON", "ValidateError") from None
                _check(parameter.content, value, parameter.name)
            values[parameter.name] = value
        return values

    def check_json(self, content_type: str, raw: bytes) -> Any:
        """The decoded body. Raises a 400 for another content type, broken JSON, or what the schema refuses."""
        if self.body is None:
            return None
        if content_type.partition(";")[0].strip().lower() != self.media_type:
            raise bad_request(f"request body must be {self.media_type}", "NotExistContentTypeDefinition")
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError as reason:
            raise bad_request(f"request body is not valid JSON: {reason.msg}", "ValidateError") from None
        _check(self.body, value)
        return value


def _typed(text: str, parameter: Parameter) -> Any:
    kind = parameter.schema.get("type")
    if kind == "integer" and re.fullmatch(r"-?\d{1,40}", text, re.ASCII):
        return int(text)
    if kind == "boolean" and text in ("true", "false"):
        return text == "true"
    if kind in ("integer", "boolean"):
        raise bad_request(f"{text!r} isn't {kind}", "ValidateError", field=parameter.name, payload=text)
    return text


def _check(validator: Any, value: Any, field: str | None = None) -> None:
    if validator.is_valid(value):
        return
    found = next(iter(validator.iter_errors(value)))
    kind = found.kind.name
    if kind == "format":
        code = _FORMAT_CODES.get(found.kind.format, "ValidateError")
    elif kind == "type":
        code = "NotNullError" if found.instance is None else "ValidateError"
    else:
        code = _CODES.get(kind, "ValidateError")
    where = ".".join(str(part) for part in found.instance_path) or field
    # The message repeats what was sent: cut it, a body may be megabytes.
    raise bad_request(found.message[:500], code, field=where)


@cache
def operations() -> dict[str, Operation]:
    """Every operation of the PennyLane contract, by operationId."""
    document = contracts.load("pennylane")
    return {
        spec["operationId"]: _operation(document, path, method, spec)
        for path, item in document["paths"].items()
        for method, spec in item.items()
    }


def _operation(document: dict[str, Any], path: str, method: str, spec: dict[str, Any]) -> Operation:
    content: dict[str, Any] = spec.get("requestBody", {}).get("content", {})
    media_type = next(iter(content), None)
    answers: dict[str, Any] = next((part for status, part in spec["responses"].items() if status.startswith("20")), {})
    page = _resolved(document, answers.get("content", {}).get("application/json", {}).get("schema", {}))
    return Operation(
        id=spec["operationId"],
        method=method.upper(),
        path=path,
        scopes=tuple(scope for entry in spec.get("security", ()) for scope in entry.get("oauth2", ())),
        parameters=tuple(_parameter(document, _resolved(document, part)) for part in spec.get("parameters", ())),
        body=_validator(document, content[media_type]["schema"]) if media_type == "application/json" else None,
        media_type=media_type,
        old_paging_keys="total_pages" in page.get("properties", {}),
    )


def _parameter(document: dict[str, Any], spec: dict[str, Any]) -> Parameter:
    schema = spec["schema"]
    content = schema.get("contentSchema")
    return Parameter(
        name=spec["name"],
        place=spec["in"],
        required=spec.get("required", False),
        schema=schema,
        validator=_validator(document, {key: part for key, part in schema.items() if not key.startswith("content")}),
        content=_validator(document, content) if content else None,
    )


def _resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        target: Any = document
        for key in part["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        part = target
    return part


def _validator(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    return jsonschema_rs.Draft202012Validator(
        {**schema, "components": {"schemas": document["components"]["schemas"]}}, validate_formats=True
    )
