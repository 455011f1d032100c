import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { argv, pid, stdin, stdout } from "node:process";
import { text } from "node:stream/consumers";
import { fromJsonString, toJsonString } from "@bufbuild/protobuf";
import {
  RestorePhysicalCommandSchema,
  RestorePhysicalResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";

// A program: carries out the restore on its stdin and kills itself, as kill -9 does, when it gets to the named step: the
// beginning of a phase, `replaying` as soon as the server answers, `rename N PATTERN` or `rm N PATTERN` before the Nth time
// that a path which the pattern fits is renamed or removed, or `restored` when the result is noted. It prints the result. With the second argument `settle` an earlier run is settled instead.
const [, , step = "", work = "restore"] = argv;
const [, change = "", number = "0", pattern = "^$"] = /^(rename|rm) (\d+) (.*)$/.exec(step) ?? [];

function reach(name: string): void {
  if (name === step) process.kill(pid, "SIGKILL");
}

let left = Number(number);
function count(name: string, path: unknown): void {
  if (name === change && new RegExp(pattern).test(String(path)) && --left === 0) process.kill(pid, "SIGKILL");
}
const { rename, rm } = fs;
// What the restore imports are these very functions, which so are in the way of each of its changes.
fs.rename = async (from, to) => {
  count("rename", from);
  await rename(from, to);
};
fs.rm = async (path, options) => {
  count("rm", path);
  await rm(path, options);
};
syncBuiltinESMExports();

const { restorePhysical } = await import("../../../agent/src/physical/restore/restore.ts");
const { settlePhysical } = await import("../../../agent/src/physical/restore/settle.ts");
const { openStorage } = await import("../../../agent/src/storage/open.ts");
const signal = AbortSignal.timeout(100_000);
const command = fromJsonString(RestorePhysicalCommandSchema, await text(stdin));
const location = command.chain[0]?.repository?.location;
if (!location) throw new Error("the command names no repository");
await using storage = await openStorage(location, { operationId: "op_restore", signal });
if (work === "settle") await settlePhysical({ command, operationId: "op_restore", noted: undefined, signal });
else
  await restorePhysical({
    command,
    backups: command.chain.map((address) => ({ storage, address, identities: undefined })),
    restoreCommand: undefined,
    operationId: "op_restore",
    signal,
    onProgress: ({ phase, item }) => reach(phase === "recovering" && item !== "" ? "replaying" : phase),
    log: () => {},
    onLeaving: () => {},
    onRestored(result) {
      stdout.write(toJsonString(RestorePhysicalResultSchema, result));
      reach("restored");
      return Promise.resolve();
    },
  });
