import { DatabaseError } from "pg";

/** Fields of an error or notice by their letters. https://www.postgresql.org/docs/current/protocol-error-fields.html */
function parseFields(body: Buffer): Map<string, string> {
  const fields = new Map<string, string>();
  for (let at = 0; at < body.length && body[at] !== 0;) {
    const end = body.indexOf(0, at);
    if (end < 0) break;
    fields.set(String.fromCharCode(body.readUInt8(at)), body.toString("utf8", at + 1, end));
    at = end + 1;
  }
  return fields;
}

/** An ErrorResponse as `pg` would give it, so that the same rules apply to it. */
export function parseServerError(body: Buffer): DatabaseError {
  const fields = parseFields(body);
  const error = new DatabaseError(fields.get("M") ?? "", body.length, "error");
  error.severity = fields.get("V") ?? fields.get("S");
  error.code = fields.get("C");
  error.detail = fields.get("D");
  error.hint = fields.get("H");
  error.routine = fields.get("R");
  return error;
}

/** The text of a NoticeResponse. */
export function parseNotice(body: Buffer): string {
  return parseFields(body).get("M") ?? "";
}
