import { parseArgs } from "node:util";
import { parseSize } from "@coppice/proto/kit/size";
import type { Bench } from "./bench.ts";
import { dump } from "./dump.ts";
import { dumpS3 } from "./dump-s3.ts";
import { baseBackup } from "./physical/base-backup.ts";
import { baseRestore } from "./physical/base-restore.ts";
import { incremental } from "./physical/incremental.ts";
import { pitr } from "./physical/pitr.ts";
import { walPush, walPushS3 } from "./physical/wal-push.ts";
import { walReplay } from "./physical/wal-replay.ts";
import { restore } from "./restore.ts";
import { restoreS3 } from "./restore-s3.ts";
import { formatJson, formatTable, type Row } from "./row.ts";
import { version } from "./version.ts";

const benches: Readonly<Record<string, Bench>> = {
  cli: version,
  version,
  dump,
  "dump-s3": dumpS3,
  restore,
  "restore-s3": restoreS3,
  "base-backup": baseBackup,
  "base-restore": baseRestore,
  "wal-push": walPush,
  "wal-push-s3": walPushS3,
  "wal-replay": walReplay,
  incremental,
  pitr,
};
/** Runs in a minute or two on two cores. */
const defaultSize = "300MB";

function list(): string {
  const width = Math.max(...Object.keys(benches).map(({ length }) => length));
  const lines = Object.entries(benches).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}\n`);
  return `usage: npm run bench -- NAME [--json] [--size ${defaultSize}]\n${lines.join("")}`;
}

/** The bench and its settings, or undefined after it was said what is wrong. */
function readArguments(args: string[]): { name: string; bench: Bench; isJson: boolean; sizeBytes: number } | undefined {
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { json: { type: "boolean", default: false }, size: { type: "string", default: defaultSize } },
    });
    const [name = "", ...more] = positionals;
    const bench = Object.hasOwn(benches, name) ? benches[name] : undefined;
    if (!bench || more.length > 0) throw new Error(`there is no bench ${JSON.stringify(positionals.join(" "))}`);
    return { name, bench, isJson: values.json, sizeBytes: Number(parseSize(values.size)) };
  } catch (error) {
    console.error(`bench: ${error instanceof Error ? error.message : String(error)}\n${list()}`);
    return undefined;
  }
}

async function main(args: string[]): Promise<number> {
  if (args.length === 0) {
    process.stdout.write(list());
    return 0;
  }
  const chosen = readArguments(args);
  if (!chosen) return 2;
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => interrupted.abort());
  const rows: Row[] = [];
  try {
    const { bench, sizeBytes } = chosen;
    const say = (line: string) => void process.stderr.write(`${line}\n`);
    for await (const row of bench.run({ sizeBytes, signal: interrupted.signal, say })) {
      rows.push(row);
      if (chosen.isJson) process.stdout.write(`${formatJson(row)}\n`);
    }
  } catch (error) {
    if (interrupted.signal.aborted) return 130;
    console.error(`bench ${chosen.name}: ${error instanceof Error ? error.message : String(error)}`);
    return 1;
  }
  if (!chosen.isJson) process.stdout.write(formatTable(rows));
  return 0;
}

process.exitCode = await main(process.argv.slice(2));
