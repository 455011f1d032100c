// Files that a postgresql.conf includes inside the data directory say where its server works too: a restored one works in
// its own directory, and is not handed over where it would not.
import { appendFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { afterAll, beforeAll, expect, test } from "vitest";
import { staysQuiet } from "../../agent/src/physical/restore/settings/recovery-settings.ts";
import { requireOwnPlace } from "../../agent/src/physical/restore/settings/own-place.ts";
import { makeAgeKey } from "../support/dumps/age-key.ts";
import { openPhysicalLab, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab, type RestoreLab } from "../support/physical/restore-lab.ts";
import { runRecipe } from "../support/physical/run-recipe.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

const signal = AbortSignal.timeout(120_000);
const stack = new AsyncDisposableStack();
let server: PostgresServer;
let backups: PhysicalLab;
let lab: RestoreLab;

beforeAll(async () => {
  server = stack.use(await openPostgresServer({ major: 17 }));
  backups = stack.use(await openPhysicalLab(server));
  lab = stack.use(await openRestoreLab(server, backups.repository));
  const { dataDir } = server;
  const places = `data_directory = '${dataDir}'\nhba_file = '${dataDir}/pg_hba.conf'\n`;
  // What includes lead to beside the data directory is in the backup, and goes into the restored one.
  await writeFile(join(dataDir, "../outside.conf"), "maintenance_work_mem = '77MB'\n", { mode: 0o644 });
  const outside = "include '../../outside.conf'\ninclude_dir 'empty.d'\n";
  await mkdir(join(dataDir, "conf.d/empty.d"), { recursive: true });
  await writeFile(join(dataDir, "conf.d/places.conf"), `${places}include '${dataDir}/conf.d/more'\n`);
  await writeFile(join(dataDir, "conf.d/more"), `work_mem = '7MB'\nident_file'${dataDir}/pg_ident.conf'\n${outside}`);
  await runProgram("chown", ["-R", `${server.owner.uid}:${server.owner.gid}`, join(dataDir, "conf.d")], {
    env: process.env,
  });
  await appendFile(join(dataDir, "postgresql.conf"), "\ninclude_dir 'conf.d'\n");
  await server.stop("fast");
  await server.start();
});
afterAll(() => stack.disposeAsync());

async function take(): Promise<BackupAddress> {
  const command = backups.command();
  await backups.take(command);
  return command.backup;
}

test("a restored server works in its own directory, and has the rest of what is included", async () => {
  const command = await lab.command("own", [await take()]);
  expect((await lab.restore(command)).warnings).toEqual([staysQuiet]);
  const shown =
    "select current_setting('data_directory'), current_setting('hba_file'), current_setting('work_mem'), current_setting('maintenance_work_mem')";
  const { dataDirectory } = command;
  expect(await lab.sql(command, shown)).toBe(`${dataDirectory}|${dataDirectory}/pg_hba.conf|7MB|77MB`);
});

test("so does one that RECOVER.txt makes", async () => {
  const key = await makeAgeKey();
  const command = backups.command();
  await backups.take(command);
  await using made = await runRecipe(server, backups.folderOf(command.backup), { key });
  const asked = ["-D", made.data, "-C", "data_directory"];
  const asOwner = [`--reuid=${server.owner.uid}`, `--regid=${server.owner.gid}`, "--init-groups"];
  const { stdout } = await runProgram("setpriv", [...asOwner, join(server.binDir, "postgres"), ...asked], {
    env: process.env,
  });
  expect(stdout.trim()).toBe(made.data);
});

test("a directory whose server would work elsewhere, or does not start, is not handed over", async () => {
  const { dataDir, binDir, owner } = server;
  const data = join(lab.folder, "own");
  const user = { ...owner, home: "/", groups: [] };
  const place = { data, programs: { version: "17", folder: binDir }, user, signal, earlierLogs: new Map() };
  await expect(requireOwnPlace(place)).resolves.toBeUndefined();
  await appendFile(join(data, "conf.d/more"), `data_directory = '${dataDir}'\n`);
  await expect(requireOwnPlace(place)).rejects.toMatchObject({
    reason: "SERVER_NOT_STARTED",
    message: expect.stringContaining(`data_directory = ${dataDir}`) as unknown,
  });
  await appendFile(join(data, "conf.d/more"), "restore_command = 'a\nb'\n");
  await expect(requireOwnPlace(place)).rejects.toMatchObject({
    message: expect.stringContaining("contains errors") as unknown,
  });
});
