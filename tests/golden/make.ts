// A program: makes a golden repository in the empty folder that is its argument. It is run once for each version of the
// repository's format, never for one that is committed: those stay as they are, byte for byte.
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { argv } from "node:process";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { BackupAddressSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { create } from "@bufbuild/protobuf";
import { DumpCodec, DumpFormat, type DumpOptionsSchema } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { makeAgeKey } from "../support/dumps/age-key.ts";
import { openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer } from "../support/postgres-servers.ts";
import { portrayGolden } from "./portrait.ts";

const [, , folder] = argv;
if (folder === undefined) throw new Error("usage: make.ts FOLDER");
await mkdir(folder);

const { CUSTOM, PLAIN } = DumpFormat;
const { ZSTD, GZIP, NONE } = DumpCodec;
const clusterId = `cls_${"0".repeat(25)}1`;
const odd = `two "words" o'clock`;
const oddest = `line\nbreak 🌲 dbname=other $(id) --x`;

await using server = await openPostgresServer({ major: 18 });
await using lab = await openDumpLab(server);
const key = await makeAgeKey();
const [cluster, database] = await Promise.all(
  ["cluster.sql", "database.sql"].map((name) => readFile(join(import.meta.dirname, name), "utf8")),
);
if (cluster === undefined || database === undefined) throw new Error("there is nothing to put into it");
await server.sql("postgres", cluster);

const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;

async function addDatabase(name: string): Promise<void> {
  await server.sql("postgres", `create database ${quote(name)} template template0 owner golden_owner`);
  await server.sql(name, database ?? "");
}

let count = 0;
/** The next backup in the repository. */
async function dump(options: Omit<MessageInitShape<typeof DumpOptionsSchema>, "$typeName">, isEncrypted = false) {
  count++;
  const backupId = `bkp_${String(count).padStart(26, "0")}`;
  const command = lab.dumpCommand(options, isEncrypted ? [key.recipient] : []);
  command.clusterName = "golden";
  command.backup = create(BackupAddressSchema, {
    ...(command.backup?.repository ? { repository: command.backup.repository } : {}),
    clusterId,
    backupId,
    folder: `20261121T00000${count}Z_dump_${backupId}`,
  });
  const { failure } = await lab.dump(command);
  if (failure) throw failure;
}

await addDatabase("orders");
await addDatabase(odd);
await server.sql("postgres", "alter database orders set work_mem = '7MB'; comment on database orders is 'golden'");
await dump({ databases: ["orders", odd], format: CUSTOM, codec: ZSTD, compressionLevel: 9 });
await dump({ format: PLAIN, codec: GZIP, compressionLevel: 9, clusterDump: true });
await addDatabase(oddest);
await dump({ databases: ["orders", oddest], format: CUSTOM, codec: NONE }, true);
await dump({ databases: [oddest], format: PLAIN, codec: ZSTD }, true);
await dump({ databases: [oddest], format: CUSTOM, codec: GZIP });

await cp(lab.repository, join(folder, "repository"), { recursive: true });
await writeFile(join(folder, "identity.txt"), key.identityFile);
const portrait = await portrayGolden(server, "orders");
for (const name of [odd, oddest])
  if ((await portrayGolden(server, name)).join() !== portrait.join()) throw new Error(`${name} differs`);
await writeFile(join(folder, "portrait.txt"), `${portrait.join("\n")}\n`);
