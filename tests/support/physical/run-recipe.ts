import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { expect } from "vitest";
import type { AgeKey } from "../dumps/age-key.ts";
import type { PostgresServer } from "../postgres-servers.ts";
import { runProgram } from "../run-program.ts";

/** All that the recipe may need; nothing else is to be found, least of all Node. */
const systemPrograms = "age bash cat chmod gzip head ln ls mkdir mv rm sed sha256sum tar tr zstd".split(" ");
const serverPrograms = ["postgres", "pg_verifybackup", "pg_combinebackup"];
const path = { PATH: "/usr/bin:/bin:/usr/sbin:/sbin" };

/** What RECOVER.txt has made; disposing removes it. */
export interface RecipeResult extends AsyncDisposable {
  readonly data: string;
  /** Where the tablespace went. */
  readonly moved: string;
}

/**
 * Runs RECOVER.txt of a backup's folder in a copy of all that the repository has of the cluster, as the server's user,
 * with nothing in the environment but what it asks for. `warning` is what it is expected to say.
 */
export async function runRecipe(
  server: PostgresServer,
  backup: string,
  {
    key,
    oid = "0",
    settings = [],
    warning = "",
  }: { readonly key: AgeKey; readonly oid?: string; readonly settings?: string[]; readonly warning?: unknown },
): Promise<RecipeResult> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-recover-"));
  const [bin, copy, data, moved] = ["bin", "copy", String.raw`da\ta`, "moved"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
    string,
  ];
  await mkdir(bin);
  for (const name of systemPrograms) await symlink(join("/usr/bin", name), join(bin, name));
  for (const name of serverPrograms) await symlink(join(server.binDir, name), join(bin, name)).catch(() => {});
  await cp(join(backup, "../.."), copy, { recursive: true });
  await writeFile(join(folder, "identity.txt"), key.identityFile);
  const { uid, gid } = server.owner;
  expect(await runProgram("chown", ["-R", `${uid}:${gid}`, folder], { env: path })).toMatchObject({ code: 0 });
  const environment = [
    `PATH=${bin}`,
    `PGDATA=${data}`,
    `TABLESPACE_${oid}=${moved}`,
    `IDENTITY=${join(folder, "identity.txt")}`,
    ...settings,
  ];
  const asOwner = [`--reuid=${uid}`, `--regid=${gid}`, "--init-groups"];
  const place = join(copy, "backups", basename(backup));
  const line = [...asOwner, "/usr/bin/env", "--chdir", place, "-i", ...environment, "bash", "RECOVER.txt"];
  const ended = await runProgram("setpriv", line, { env: path });
  expect(ended).toMatchObject({ code: 0, stderr: warning });
  return { data, moved, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
}
