"""Uploaded files: stored, linked to entries, never listed again.

Only the upload belongs here. Reading a file back by its link belongs to app.py, since the link is no operation of the
contract.
"""

from typing import Any

from kash_pipeline.sandbox.pennylane.answers import Json, bad_request, error, instant
from kash_pipeline.sandbox.pennylane.call import Answer, Call, Upload

# pennylane-api.md section 7.6: no text, CSV, XML or HTML.
CONTENT_TYPES = ("application/pdf", "image/png", "image/jpeg", "image/tiff", "image/bmp", "image/gif")
LARGEST_BYTES = 100 * 1024 * 1024


def link(call: Call, identifier: int) -> str:
    """Where the file can be fetched; how long the real link lives is unknown, ours stays."""
    return f"{call.base_url}/_files/{identifier}"


def upload(call: Call) -> Answer:
    """Refusing another type with 422 and an oversized file with 400 is our guess; both are declared."""
    sent: Upload = call.body
    if "file" not in sent.files:
        raise bad_request("missing required parameters: file", "NotExistRequiredKey", field="file")
    unknown = (set(sent.files) | set(sent.fields)) - {"file", "filename"}
    if unknown:
        raise bad_request(f"does not define properties: {', '.join(sorted(unknown))}", "NotExistPropertyDefinition")
    own_name, content_type, content = sent.files["file"]
    name = sent.fields.get("filename", own_name)
    if len(name) > 255:
        raise bad_request("filename is longer than 255", "MoreThanMaxLength", field="filename")
    if len(content) > LARGEST_BYTES:
        raise bad_request("file is larger than 100 MB", "ValidateError", field="file")
    if content_type.partition(";")[0].strip().lower() not in CONTENT_TYPES:
        raise error(422, f"File has a content type that is not allowed: {content_type}")
    row: Any = call.connection.exec_driver_sql(
        "insert into files (company_id, filename, content_type, content, created_at, updated_at)"
        " values (%(company)s, %(name)s, %(type)s, %(content)s, %(now)s, %(now)s)"
        " returning id, filename, created_at, updated_at",
        {"company": call.company, "name": name, "type": content_type, "content": content, "now": call.now},
    ).one()
    body: Json = {
        "id": row.id,
        "url": link(call, row.id),
        "filename": row.filename,
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
    }
    return Answer(201, body)


HANDLERS = {"postFileAttachments": upload}
