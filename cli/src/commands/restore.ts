import type { Command } from "commander";
import { Option } from "commander";
import { OperationSchema, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { addCommand, addGroup, type Execute } from "../command.ts";
import { confirm } from "../input/confirm.ts";
import { dryRunOption, integerOption, operationOptions, yesOption } from "../input/options.ts";
import { conclude, type OperationOptions, seeThrough } from "../operation/conclude.ts";
import { followOperation } from "../operation/follow.ts";
import { formatOutcome, sawTrouble } from "../operation/outcome.ts";
import { protoJson } from "../output/proto-json.ts";
import type { Session } from "../session.ts";

interface RestoreOptions {
  readonly database: string;
  readonly backup?: string;
  readonly as?: string;
  readonly to?: string;
  readonly replace?: boolean;
  readonly jobs?: number;
}

interface CreateOptions extends RestoreOptions, OperationOptions {
  readonly yes?: boolean;
  readonly dryRun?: boolean;
}

const restoreOptions = () => [
  new Option("--database <name>", "database in the backup").makeOptionMandatory().env("COPPICE_RESTORE_DATABASE"),
  new Option("--backup <id>", "backup to restore (the last good one)").env("COPPICE_RESTORE_BACKUP"),
  new Option("--as <name>", "name for the restored database (the name it had)").env("COPPICE_RESTORE_AS"),
  new Option("--to <cluster>", "cluster to restore into (the same)").env("COPPICE_RESTORE_TO"),
  new Option("--replace", "swap it for the present database of that name, which is kept as NAME_before_TIME"),
  integerOption("--jobs <n>", "jobs of pg_restore (1)", 1, 64).env("COPPICE_RESTORE_JOBS"),
];

const clusterArgument = ["<cluster>", "cluster that was backed up: name or id"] as const;

/** `coppice restore …` */
export function addRestoreCommands(program: Command, execute: Execute): void {
  const group = addGroup(program, "restore", "restore a database, beside the present one or in its place");
  addCommand<RestoreOptions & OperationOptions>(group, execute, {
    name: "plan",
    summary: "say what a restore would do and whether it can be done; nothing is touched",
    arguments: [clusterArgument],
    options: [...restoreOptions(), ...operationOptions()],
    examples: [
      "coppice restore plan shop --database orders --as orders-copy",
      "coppice restore plan shop --database orders --replace",
    ],
    run: plan,
  });
  addCommand<CreateOptions>(group, execute, {
    name: "create",
    summary: "restore a database of a backup, compared before it is used",
    arguments: [clusterArgument],
    options: [...restoreOptions(), yesOption(), dryRunOption(), ...operationOptions()],
    examples: [
      "coppice restore create shop --database orders --as orders-copy",
      "coppice restore create shop --database orders --replace --yes",
      "coppice restore create shop --database orders --to staging",
    ],
    run: restore,
  });
}

const requestOf = (cluster: string, { database, backup, as, to, replace, jobs }: RestoreOptions) => ({
  cluster,
  database,
  backup: backup ?? "",
  targetCluster: to ?? "",
  targetDatabase: as ?? "",
  replace: replace ?? false,
  jobs: jobs ?? 0,
});

async function plan(session: Session, options: RestoreOptions & OperationOptions, cluster: string): Promise<number> {
  const api = await session.api();
  const operation = await api.restores.planRestore({
    restore: requestOf(cluster, options),
    requestId: session.newRequestId(),
  });
  return await seeThrough(session, api, operation, options);
}

async function restore(session: Session, options: CreateOptions, cluster: string): Promise<number> {
  const api = await session.api();
  const request = requestOf(cluster, options);
  const name = options.as ?? options.database;
  if (options.dryRun) {
    const operation = await api.restores.createRestore({ restore: request, validateOnly: true });
    const { spec } = operation;
    const target = spec.case === "createRestore" ? spec.value.targetClusterName : cluster;
    const backup = spec.case === "createRestore" ? spec.value.backup : "";
    await session.answer({
      json: () => protoJson(OperationSchema, operation),
      table: () =>
        session.success(
          `${options.database} of ${backup} would be restored into ${target} as ${name}; nothing was done`,
          {
            next: "coppice restore plan, with the same flags, looks closer",
          },
        ),
      names: () => [name],
    });
    return 0;
  }
  if (options.replace && !options.yes) {
    const { terminal } = session;
    if (terminal.stdinIsTty) {
      // Whoever is asked sees first what would happen.
      const started = await api.restores.planRestore({ restore: request, requestId: session.newRequestId() });
      const planned = await followOperation(session, api, started.id);
      if (planned.state !== OperationState.SUCCEEDED || sawTrouble(planned))
        return await conclude(session, api, planned);
      terminal.err(formatOutcome(planned, { paint: terminal.paintErr, now: session.now() }));
    }
    await confirm(session, {
      yes: false,
      what: `database ${name} in ${options.to ?? cluster} is replaced, and everybody in it is disconnected`,
      name,
    });
  }
  const operation = await api.restores.createRestore({ restore: request, requestId: session.newRequestId() });
  return await seeThrough(session, api, operation, options);
}
