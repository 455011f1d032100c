import { open } from "node:fs/promises";
import { fail } from "@coppice/proto/kit/failure";
import { issueToken } from "./access/issue-token.ts";
import { writeAudit } from "./audit/audit.ts";
import type { Catalog } from "./catalog/catalog.ts";
import { hasTokens, lockTokens } from "./catalog/token.ts";

/** The first admin token: shown, or the file it was written to. */
export type Bootstrap = { readonly value: string } | { readonly file: string };

/**
 * Makes the first admin token when there has never been a token; undefined otherwise. With a file it is written there,
 * readable by its owner alone, and nowhere else: before the token counts, so that it is never lost. Fails with
 * CONFIGURATION_INVALID when that file cannot be written.
 */
export async function bootstrap(catalog: Catalog, file: string | undefined): Promise<Bootstrap | undefined> {
  return catalog.transaction(async (tx) => {
    // Of replicas that start at once, one makes it.
    await lockTokens(tx);
    if (await hasTokens(tx)) return undefined;
    const { row, value } = await issueToken(tx, { name: "admin", role: "ADMIN", expireTime: null });
    await writeAudit(
      tx,
      { principal: "system", tokenId: null, action: "bootstrap", request: {}, peerAddress: "" },
      { id: row.id, name: row.name },
    );
    if (file === undefined) return { value };
    await writeToken(file, value);
    return { file };
  });
}

async function writeToken(file: string, value: string): Promise<void> {
  try {
    await using handle = await open(file, "w", 0o600);
    await handle.chmod(0o600);
    await handle.writeFile(`${value}\n`);
    await handle.sync();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown trouble";
    fail("CONFIGURATION_INVALID", `--bootstrap-token-file: ${file} cannot be written (${code})`, {
      fields: [{ field: "--bootstrap-token-file", expected: "a file in a folder that may be written", value: file }],
      cause: error,
    });
  }
}
