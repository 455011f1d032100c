// Files that a postgresql.conf includes inside the data directory say where its server works too: a restored one works in
// its own directory, and is not handed over where it would not.
import { appendFile, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findExtraSettings } from "../../agent/src/physical/restore/settings/extra-settings.ts";
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
/** Where the living server writes its log. */
let logs: string;

beforeAll(async () => {
  server = stack.use(await openPostgresServer({ major: 17 }));
  backups = stack.use(await openPhysicalLab(server));
  lab = stack.use(await openRestoreLab(server, backups.repository));
  const { dataDir } = server;
  const places = `data_directory = '${dataDir}'\nhba_file = '${dataDir}/pg_hba.conf'\n`;
  // What includes lead to beside the data directory is in the backup, and goes into the restored one.
  await writeFile(join(dataDir, "../outside.conf"), "maintenance_work_mem = '77MB'\n", { mode: 0o644 });
  logs = join(dataDir, "../logs");
  await mkdir(logs);
  const outside = "include '../../outside.conf'\ninclude_dir 'empty.d'\n";
  await mkdir(join(dataDir, "conf.d/empty.d"), { recursive: true });
  await writeFile(
    join(dataDir, "conf.d/places.conf"),
    `${places}logging_collector = on\nlog_directory = '${logs}'\ninclude '${dataDir}/conf.d/more'\n`,
  );
  await writeFile(join(dataDir, "conf.d/more"), `work_mem = '7MB'\nident_file'${dataDir}/pg_ident.conf'\n${outside}`);
  const own = [logs, join(dataDir, "conf.d")];
  await runProgram("chown", ["-R", `${server.owner.uid}:${server.owner.gid}`, ...own], {
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
  const living = await readdir(logs);
  expect((await lab.restore(command)).warnings).toEqual([
    expect.stringContaining(`log_directory was ${logs}, where`),
    staysQuiet,
  ]);
  const shown =
    "select current_setting('data_directory'), current_setting('hba_file'), current_setting('work_mem'), current_setting('maintenance_work_mem')";
  const { dataDirectory } = command;
  expect(await lab.sql(command, shown)).toBe(`${dataDirectory}|${dataDirectory}/pg_hba.conf|7MB|77MB`);
  expect(await lab.sql(command, "show log_directory")).toBe("log");
  expect(await readdir(logs)).toEqual(living);
});

test("so does one that RECOVER.txt makes", async () => {
  const key = await makeAgeKey();
  const command = backups.command();
  await backups.take(command);
  await using made = await runRecipe(server, backups.folderOf(command.backup), { key });
  const asOwner = [`--reuid=${server.owner.uid}`, `--regid=${server.owner.gid}`, "--init-groups"];
  const ask = async (name: string) => {
    const asked = [join(server.binDir, "postgres"), "-D", made.data, "-C", name];
    return (await runProgram("setpriv", [...asOwner, ...asked], { env: process.env })).stdout.trim();
  };
  expect(await ask("data_directory")).toBe(made.data);
  expect(await ask("log_directory")).toBe("log");
});

test("the log stays where it was when a server is replaced by its own backup", async () => {
  const { dataDir, binDir, owner } = server;
  const user = { ...owner, home: "/", groups: [] };
  const place = { data: dataDir, programs: { version: "17", folder: binDir }, user, signal, earlierLogs: new Map() };
  const replaced = await findExtraSettings(place, { port: 0, dataDirectory: dataDir, source: dataDir });
  expect(replaced).toEqual({ settings: [], warnings: [staysQuiet] });
  const moved = await findExtraSettings(place, { port: 0, dataDirectory: "/srv/restored", source: dataDir });
  expect(moved.settings).toEqual([["log_directory", "log"]]);
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
