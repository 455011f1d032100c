import type { Command } from "commander";
import { addCommand, addGroup, type Execute } from "../command.ts";
import { dryRunOption, operationOptions, yesOption } from "../input/options.ts";
import { readRestoreFlags, readRestoreRequest, restoreOptions } from "../input/restore/restore-flags.ts";
import { type OperationOptions, seeThrough } from "../operation/conclude.ts";
import type { Session } from "../session.ts";
import { type DecideOptions, dropRestored, swapRestored } from "./restore/decide.ts";
import { guide } from "./restore/guide.ts";
import { type RestoreOptions, runRestore } from "./restore/run.ts";

const clusterArgument = ["<cluster>", "cluster that was backed up, or that a file goes to: name or id"] as const;
const restoreArgument = ["<operation>", "the restore that has left it: op_…"] as const;
const exampleId = "op_01kaj3v8m2e7rv1q6c0d9w5x4t";

/** `coppice restore …` */
export function addRestoreCommands(program: Command, execute: Execute): void {
  const group = addGroup(
    program,
    "restore",
    "restore a cluster, a database or parts of it; alone it asks what and where to",
  );
  addCommand<OperationOptions>(group, execute, {
    name: "guide",
    isDefault: true,
    summary: "ask what to restore and where to, show what would be done, and do it",
    options: operationOptions(),
    examples: ["coppice restore guide"],
    run: guide,
  });
  addCommand<OperationOptions>(group, execute, {
    name: "plan",
    summary: "say what a restore would do and whether it can be done; nothing is touched",
    arguments: [clusterArgument],
    options: [...restoreOptions(), ...operationOptions()],
    examples: [
      "coppice restore plan shop --database orders --as orders-copy",
      "coppice restore plan shop --database orders --replace",
      "coppice restore plan shop --all --to shop-new",
      "coppice restore plan shop --globals --to shop-new",
      "coppice restore plan shop --to db8:/var/lib/postgresql/17/shop --start",
      "coppice restore plan shop --to db8:/var/lib/postgresql/17/shop --at 2026-11-20T02:55+01 --start",
      "coppice restore plan shop --database orders --table public.items --at 2026-11-20T02:55+01 --as items-before",
    ],
    run: plan,
  });
  addCommand<RestoreOptions>(group, execute, {
    name: "create",
    summary: "restore from a backup, compared before it is used; each flag can be said by the variable behind it",
    arguments: [clusterArgument],
    options: [...restoreOptions(), yesOption(), dryRunOption(), ...operationOptions()],
    examples: [
      "coppice restore create shop --database orders --as orders-copy",
      "coppice restore create shop --database orders --replace --yes",
      "coppice restore create shop --database orders --table public.customers --into",
      "coppice restore create shop --all --to shop-new",
      "coppice restore create shop --globals --to shop-new --role app",
      "coppice restore create shop --from db7:/srv/dumps/orders.sql.gz --as orders",
      "coppice restore create shop --from db7:/srv/dumps/orders.dump.age --identity kit.txt --as orders",
      "coppice restore create shop --at 2026-11-20T02:55+01 --database orders --table public.items --to shop2 --as items-before",
      "coppice restore create shop --at 2026-11-20T02:55+01 --database orders --replace",
      "coppice restore create shop --at 2026-11-20T02:55+01 --database orders --to db7:/srv/dumps/orders.dump",
      "coppice restore create shop --to db8:/var/lib/postgresql/17/shop --start --port 5433",
      "coppice restore create shop --to db7:/srv/pg/before --at 2026-11-20T02:55+01 --start --port 5433",
      "coppice restore create shop --to db7:/srv/pg/shop --replace --tablespace /srv/fast=/srv/fast2",
    ],
    run: (session, options, cluster) =>
      runRestore(session, options, cluster, readRestoreFlags(options, session.terminal.env)),
  });
  addCommand<DecideOptions>(group, execute, {
    name: "swap",
    summary:
      "put what a restore has left beside into the place of the present database, which is kept; the difference is shown first",
    arguments: [restoreArgument],
    options: [yesOption(), ...operationOptions()],
    examples: [`coppice restore swap ${exampleId}`],
    run: swapRestored,
  });
  addCommand<DecideOptions>(group, execute, {
    name: "drop",
    summary: "drop what a restore has left beside; the present database stays as it is",
    arguments: [restoreArgument],
    options: [yesOption(), ...operationOptions()],
    examples: [`coppice restore drop ${exampleId}`],
    run: dropRestored,
  });
}

async function plan(session: Session, options: OperationOptions, cluster: string): Promise<number> {
  const restore = await readRestoreRequest(cluster, readRestoreFlags(options, session.terminal.env), session.now());
  const api = await session.api();
  const operation = await api.restores.planRestore({ restore, requestId: session.newRequestId() });
  return await seeThrough(session, api, operation, options);
}
