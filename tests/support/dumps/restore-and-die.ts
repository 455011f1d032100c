import { argv, pid, stdin } from "node:process";
import { text } from "node:stream/consumers";
import { fromJsonString } from "@bufbuild/protobuf";
import { RestoreDatabaseCommandSchema, RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import type { IntoProgress } from "../../../agent/src/logical/into/transaction.ts";
import { restoreDatabase } from "../../../agent/src/logical/restore.ts";
import { openStorage } from "../../../agent/src/storage/open.ts";

// A program: carries out the restore on its stdin and kills itself, as kill -9 does, when it gets to the named step.
// Arguments: step, work folder, home. The password is in PGTESTPASSWORD. It prints the staged database's oid, or as JSON,
// a line each, how far a restore into a database that is there has come.
const [, , step = "", workFolder = "", home = ""] = argv;
const signal = AbortSignal.timeout(60_000);
const command = fromJsonString(RestoreDatabaseCommandSchema, await text(stdin));
const location = command.backup?.repository?.location;
if (!location) throw new Error("the command names no repository");

function reach(name: string): void {
  if (name === step) process.kill(pid, "SIGKILL");
}

async function tell(progress: IntoProgress): Promise<void> {
  process.stdout.write(`${JSON.stringify(progress)}\n`);
  reach(progress.is === "loading" && progress.xid !== undefined ? "transaction" : progress.is);
}

if (command.mode === RestoreMode.INTO) await tell({ is: "looking" });
await using storage = await openStorage(location, { operationId: "op_killed", signal });
await restoreDatabase({
  command,
  password: process.env.PGTESTPASSWORD,
  identities: undefined,
  files: { home },
  storage,
  workFolder,
  signal,
  onProgress: ({ phase }) => reach(phase),
  log: () => {},
  onLeaving: () => {},
  onInto: tell,
  onStaged: (oid) => {
    process.stdout.write(String(oid));
    reach("staged");
    return Promise.resolve();
  },
});
reach("done");
