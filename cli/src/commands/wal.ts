import type { Command } from "commander";
import { Option } from "commander";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { type WalArchive, WalArchiveSchema } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { addCommand, addGroup, type Execute } from "../command.ts";
import { confirm } from "../input/confirm.ts";
import {
  dryRunOption,
  durationOption,
  hostOption,
  integerOption,
  operationOptions,
  yesOption,
} from "../input/options.ts";
import { type OperationOptions, seeThrough } from "../operation/conclude.ts";
import { protoJson } from "../output/proto-json.ts";
import type { Session } from "../session.ts";
import { type CleanupOptions, cleanUpWal } from "./wal/cleanup.ts";
import { formatArchive } from "./wal/describe.ts";
import { describeLeft, findArchive } from "./wal/ended.ts";
import { describePush, waitForArchiver } from "./wal/push.ts";
import { describeKept, modes, saysHow, type SettingFlags, settingsOf } from "./wal/settings.ts";

interface SetupOptions extends SettingFlags {
  readonly to?: string;
  readonly disable?: boolean;
  readonly ownerDead?: string;
  readonly yes?: boolean;
  readonly dryRun?: boolean;
}

const clusterArgument = ["<cluster>", "name or id"] as const;
const mostMaxAgeMs = 86_400_000;

/** `coppice wal …` */
export function addWalCommands(program: Command, execute: Execute): void {
  const group = addGroup(program, "wal", "archive WAL of clusters, and see how far it has come");
  addCommand<SetupOptions>(group, execute, {
    name: "setup",
    summary: "archive WAL of a cluster from now on, change how, or stop",
    arguments: [clusterArgument],
    options: [
      new Option(
        "--mode <mode>",
        "stream: the agent receives it over the replication protocol, and nothing is restarted; push: the server's archive_command hands it to the agent (stream)",
      ).choices(Object.keys(modes)),
      new Option(
        "--to <repository>",
        "repository to store it in (where its WAL goes, or its newest backup is; or the only one)",
      ),
      durationOption(
        "--max-age <time>",
        "a segment that is not full is stored at the latest after that (60s)",
        1000,
        mostMaxAgeMs,
      ),
      new Option("--slot <name>", "physical slot of mode stream (coppice_ and the cluster's id)"),
      integerOption("--level <n>", "level of zstd, 1 to 19 (1)", 1, 19),
      new Option(
        "--disable",
        "archive no more: the slot is dropped, archive_command reset, what is stored stays",
      ).conflicts(["mode", "to", "maxAge", "slot", "level"]),
      new Option(
        "--owner-dead <host>",
        "wait no longer for that host's agent to say that it has stopped: it may write nothing more, also when it comes back",
      ).conflicts(["mode", "to", "maxAge", "slot", "level", "disable", "dryRun"]),
      yesOption(),
      dryRunOption(),
    ],
    examples: [
      "coppice wal setup shop",
      "coppice wal setup shop --mode stream --to main --max-age 30s",
      "coppice wal setup shop --mode push",
      "coppice wal setup shop --disable --yes",
      "coppice wal setup shop --owner-dead db7",
    ],
    run: (session, options, cluster) =>
      options.ownerDead === undefined
        ? setup(session, options, cluster)
        : declareOwnerDead(session, { ...options, ownerDead: options.ownerDead }, cluster),
  });
  addCommand<VerifyOptions>(group, execute, {
    name: "verify",
    summary: "read archived WAL of a cluster again: every page, and the checksum of every record",
    arguments: [clusterArgument],
    options: [
      new Option("--from <repository>", "repository that is read (the only one that holds WAL of the cluster)"),
      new Option("--content", "also decrypt what is encrypted, on a host labelled may-decrypt"),
      hostOption("read it"),
      ...operationOptions(),
    ],
    examples: ["coppice wal verify shop", "coppice wal verify shop --content --host db7"],
    run: verify,
  });
  addCommand<CleanupOptions>(group, execute, {
    name: "cleanup",
    summary: "delete archived WAL of a cluster that no backup leads to; nothing that can be recovered to is lost",
    arguments: [clusterArgument],
    options: [
      new Option("--in <repository>", "repository that is cleaned up (the only one that holds WAL of the cluster)"),
      new Option(
        "--system <identifier>",
        "system identifier of a former server, whose WAL goes as a whole when it has no backup any more (the present one)",
      ),
      new Option("--dry-run", "only look, and say what would go"),
      hostOption("do it"),
      yesOption(),
      ...operationOptions(),
    ],
    examples: ["coppice wal cleanup shop --dry-run", "coppice wal cleanup shop --in main --yes"],
    run: cleanUpWal,
  });
  addCommand(group, execute, {
    name: "status",
    summary: "show how far WAL of a cluster is archived, its gaps, and what recovery can reach",
    arguments: [clusterArgument],
    examples: ["coppice wal status shop", "coppice wal status shop -o json"],
    run: status,
  });
}

interface VerifyOptions extends OperationOptions {
  readonly from?: string;
  readonly content?: boolean;
  readonly host?: string;
}

async function verify(session: Session, options: VerifyOptions, cluster: string): Promise<number> {
  const api = await session.api();
  const operation = await api.clusters.verifyWal({
    cluster,
    repository: options.from ?? "",
    content: options.content ?? false,
    host: options.host ?? "",
    requestId: session.newRequestId(),
  });
  return await seeThrough(session, api, operation, options);
}

async function setup(session: Session, options: SetupOptions, cluster: string): Promise<void> {
  const { disable = false, dryRun = false } = options;
  const api = await session.api();
  const before = disable ? await findArchive(api, cluster) : await api.clusters.getWalArchive({ cluster });
  const request = {
    cluster,
    disable,
    repository: options.to ?? "",
    ...(disable || !saysHow(options) ? {} : { settings: settingsOf(options, before?.settings) }),
  };
  if (disable && !dryRun) {
    const what = `WAL of ${cluster} is archived no more: from then on nothing newer than what is stored can be reached`;
    await confirm(session, { yes: options.yes, what, name: cluster });
  }
  let archive = await api.clusters.updateWalArchive({
    ...request,
    ...(dryRun ? { validateOnly: true } : { requestId: session.newRequestId() }),
  });
  const isPush = archive.settings?.mode === WalMode.PUSH && !archive.ownership?.nextHost;
  if (isPush && !dryRun) archive = await waitForArchiver(session, archive);
  await session.answer({
    json: () => protoJson(WalArchiveSchema, archive),
    table: () =>
      disable
        ? session.success(...describeSetup(archive, { disable, dryRun })) + describeLeft(before, session.terminal)
        : (isPush
            ? describePush(archive, session, dryRun)
            : session.success(...describeSetup(archive, { disable, dryRun }))) +
          describeKept(before, archive, session.terminal),
    names: () => [archive.clusterName],
  });
}

async function declareOwnerDead(
  session: Session,
  { ownerDead, yes }: SetupOptions & { readonly ownerDead: string },
  cluster: string,
): Promise<void> {
  const api = await session.api();
  const what = `whatever the agent of ${ownerDead} has of WAL of ${cluster} that is not stored yet is waited for no longer; where it is alive after all it may write for up to 10 s more`;
  await confirm(session, { yes, what, name: ownerDead });
  const archive = await api.clusters.updateWalArchive({ cluster, ownerDead, requestId: session.newRequestId() });
  const { clusterName, hostName } = archive;
  await session.answer({
    json: () => protoJson(WalArchiveSchema, archive),
    table: () =>
      session.success(
        `WAL of ${clusterName} is archived by the agent of ${hostName}; that of ${ownerDead} counts as dead`,
        {
          next: `coppice wal status ${clusterName}`,
        },
      ),
    names: () => [clusterName],
  });
}

function describeSetup(
  { clusterName, repositoryName, hostName, ownership }: WalArchive,
  { disable, dryRun }: { readonly disable: boolean; readonly dryRun: boolean },
): Parameters<Session["success"]> {
  const be = dryRun ? "would be" : "is";
  const toBe = dryRun ? "would be" : "is to be";
  const end = dryRun ? "; nothing was done" : "";
  if (disable) return [`WAL of ${clusterName} ${be} archived no more; what is stored stays${end}`];
  if (ownership?.nextHost)
    return [
      `WAL of ${clusterName} moves to the agent of ${ownership.nextHostName}, once that of ${hostName} says that it has stopped`,
      { next: `coppice wal status ${clusterName}` },
    ];
  return [
    `WAL of ${clusterName} ${toBe} received by the agent of ${hostName}, and stored in ${repositoryName}${end}`,
    { next: dryRun ? undefined : `coppice wal status ${clusterName}` },
  ];
}

async function status(session: Session, _options: object, cluster: string): Promise<void> {
  const api = await session.api();
  const [archive, { windows }] = await Promise.all([
    api.clusters.getWalArchive({ cluster }),
    api.clusters.getRecoveryWindow({ cluster }),
  ]);
  await session.answer({
    json: () => protoJson(WalArchiveSchema, archive),
    table: () => formatArchive({ archive, windows }, session),
    names: () => [archive.clusterName],
  });
}
