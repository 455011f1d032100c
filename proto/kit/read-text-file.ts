import { readFile } from "node:fs/promises";
import { fail } from "./failure.ts";

/** The text of a file on this machine; `what` names it in the error. Fails with INVALID_FIELD when it cannot be read. */
export async function readTextFile(file: string, what: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown trouble";
    return fail("INVALID_FIELD", `the ${what} file ${file} cannot be read: ${code}`, {
      hint: "name a file on this machine that you may read",
      cause,
    });
  }
}
