// All commands of one noun: what is shown of a host and what can be done about it belong together.
import type { Command } from "commander";
import {
  EnrolmentSchema,
  type Host,
  HostSchema,
  HostState,
  HostStateSchema,
  ListHostsResponseSchema,
} from "@coppice/proto/gen/coppice/control/v1/host";
import { create } from "@bufbuild/protobuf";
import { fail } from "@coppice/proto/kit/failure";
import type { Api } from "../client/api.ts";
import { collectPages } from "../client/pages.ts";
import { addCommand, addGroup, type Execute } from "../command.ts";
import { confirm } from "../input/confirm.ts";
import { labelOption, repeatableOption, yesOption } from "../input/options.ts";
import { formatDetails } from "../output/details.ts";
import { formatElapsed, formatRelative } from "../output/elapsed.ts";
import { enumLabel } from "../output/enum-label.ts";
import { formatLabels } from "../output/labels.ts";
import { protoJson } from "../output/proto-json.ts";
import { formatTable } from "../output/table.ts";
import { timeOf } from "../output/time.ts";
import type { Session } from "../session.ts";
import { describeUnknown, formatRunState } from "./cluster/run-state.ts";

interface AddOptions {
  readonly label?: Record<string, string>;
}

interface UpdateOptions {
  readonly label?: Record<string, string>;
  readonly removeLabel?: readonly string[];
}

interface RemoveOptions {
  readonly yes?: boolean;
}

/** `coppice host …` */
export function addHostCommands(program: Command, execute: Execute): void {
  const group = addGroup(program, "host", "machines with an agent");
  addCommand<AddOptions>(group, execute, {
    name: "add",
    summary: "make a single-use token by which a machine's agent enrols",
    arguments: [["<name>", "name for the host"]],
    options: [labelOption()],
    examples: ["coppice host add db7", "coppice host add db7 --label site=berlin"],
    run: add,
  });
  addCommand(group, execute, {
    name: "list",
    summary: "list the hosts",
    examples: ["coppice host list"],
    run: list,
  });
  addCommand(group, execute, {
    name: "get",
    summary: "show a host and the clusters found on it",
    arguments: [["<host>", "name or id"]],
    examples: ["coppice host get db7"],
    run: get,
  });
  addCommand<UpdateOptions>(group, execute, {
    name: "update",
    summary:
      "change a host's labels; may-decrypt=true lets it have the identity of encrypted repositories, in memory, for one operation at a time",
    arguments: [["<host>", "name or id"]],
    options: [labelOption(), repeatableOption("--remove-label <key>", "label to take away (may be repeated)")],
    examples: [
      "coppice host update db7 --label may-decrypt=true",
      "coppice host update db7 --remove-label may-decrypt",
    ],
    run: update,
  });
  addCommand<RemoveOptions>(group, execute, {
    name: "remove",
    summary: "revoke the agent's certificate and forget the host",
    arguments: [["<host>", "name or id"]],
    options: [yesOption()],
    examples: ["coppice host remove db7", "coppice host remove db7 --yes"],
    run: remove,
  });
  addCommand<RemoveOptions>(group, execute, {
    name: "revoke",
    summary: "end the access of a host that is lost, and keep what is on it",
    arguments: [["<host>", "name or id"]],
    options: [yesOption()],
    examples: ["coppice host revoke db7", "coppice host revoke db7 --yes"],
    run: revoke,
  });
}

async function add(session: Session, { label = {} }: AddOptions, name: string): Promise<void> {
  const api = await session.api();
  const enrolment = await api.hosts.createEnrolment({
    hostName: name,
    labels: label,
    requestId: session.newRequestId(),
  });
  const expireTime = timeOf(enrolment.expireTime);
  const left = expireTime ? formatElapsed(expireTime.getTime() - session.now().getTime()) : "a short time";
  await session.answer({
    json: () => protoJson(EnrolmentSchema, enrolment),
    // The line is printed as it is, to be pasted.
    table: () =>
      session.success(`host ${enrolment.hostName} may enrol once within ${left}; paste this on it:`) +
      `${enrolment.command}\n  ${session.terminal.paint("dim", "next:")} coppice host list\n`,
    names: () => [enrolment.hostName],
  });
}

/** The state of a host's agent in words: `connected`, `lost 3 min ago`. */
export function agentState({ state, lastSeenTime, stateTime }: Host, now: Date): string {
  switch (state) {
    case HostState.CONNECTED:
      return "connected";
    case HostState.PENDING:
      return "not enrolled";
    case HostState.UNKNOWN:
      return `lost ${formatRelative(timeOf(lastSeenTime ?? stateTime), now)}`;
    case HostState.STOPPED:
      return `stopped ${formatRelative(timeOf(stateTime), now)}`;
    case HostState.UNSPECIFIED:
      return "-";
  }
}

async function list(session: Session): Promise<void> {
  const api = await session.api();
  const { items: hosts } = await collectPages(
    (page) => api.hosts.listHosts({ page }),
    ({ hosts }) => hosts,
  );
  await session.answer({
    json: () => protoJson(ListHostsResponseSchema, create(ListHostsResponseSchema, { hosts })),
    table: () =>
      hosts.length === 0
        ? "no hosts\n  next: coppice host add NAME\n"
        : formatTable(
            [
              { title: "NAME", cut: true },
              { title: "AGENT", cut: true },
              { title: "VERSION", cut: true },
              { title: "HEARD" },
              { title: "FOUND", right: true },
              { title: "LABELS", cut: true },
            ],
            hosts.map((host) => [
              host.name,
              agentState(host, session.now()),
              host.agentVersion || "-",
              formatRelative(timeOf(host.lastSeenTime), session.now()),
              String(host.discoveredClusters.length),
              formatLabels(host.labels),
            ]),
          ),
    names: () => hosts.map(({ name }) => name),
  });
}

async function get(session: Session, _options: object, name: string): Promise<void> {
  const api = await session.api();
  const host = await api.hosts.getHost({ host: name });
  const now = session.now();
  const details = () =>
    formatDetails([
      ["name", host.name],
      ["id", host.id],
      ["labels", formatLabels(host.labels)],
      ["agent", `${enumLabel(HostStateSchema, host.state)}, ${formatRelative(timeOf(host.stateTime), now)}`],
      ["version", host.agentVersion],
      ["machine", host.machineName],
      ["heard", host.lastSeenTime && formatRelative(timeOf(host.lastSeenTime), now)],
      [
        "certificate",
        host.certificateExpireTime && `expires ${formatRelative(timeOf(host.certificateExpireTime), now)}`,
      ],
      ["capabilities", host.capabilities.join(", ")],
    ]);
  const clusters = () =>
    host.discoveredClusters.length === 0
      ? ""
      : `\n${formatTable(
          [
            { title: "MAJOR" },
            { title: "PORT" },
            { title: "STATE" },
            { title: "PROTECTED" },
            { title: "OWNER", cut: true },
            { title: "DATA DIRECTORY", cut: true },
          ],
          host.discoveredClusters.map((found) => [
            String(found.major),
            String(found.port),
            formatRunState(found),
            found.cluster ? "yes" : "no",
            found.owner,
            found.dataDirectory,
          ]),
        )}${describeUnknown(host.discoveredClusters)}`;
  await session.answer({
    json: () => protoJson(HostSchema, host),
    table: () => details() + clusters(),
    names: () => [host.name],
  });
}

async function update(session: Session, { label = {}, removeLabel = [] }: UpdateOptions, name: string): Promise<void> {
  if (Object.keys(label).length === 0 && removeLabel.length === 0) {
    fail("INVALID_FIELD", "there is nothing to change", { hint: "give --label KEY=VALUE or --remove-label KEY" });
  }
  const both = removeLabel.find((key) => key in label);
  if (both !== undefined) {
    fail("INVALID_FIELD", `label ${both} is both set and taken away`, { hint: "give it once" });
  }
  const api = await session.api();
  const before = await api.hosts.getHost({ host: name });
  const host = await api.hosts.updateHost({
    host: before.id,
    etag: before.etag,
    labels: label,
    removeLabels: [...removeLabel],
  });
  await session.answer({
    json: () => protoJson(HostSchema, host),
    table: () => session.success(`host ${host.name} has the labels ${formatLabels(host.labels) || "(none)"}`),
    names: () => [host.name],
  });
}

async function remove(session: Session, { yes }: RemoveOptions, name: string): Promise<void> {
  const api = await session.api();
  const host = await api.hosts.getHost({ host: name });
  await confirm(session, {
    yes,
    what: `removing host ${host.name} revokes the certificate of its agent, which must enrol again to come back`,
    name: host.name,
  });
  await api.hosts.deleteHost({ host: host.id, etag: host.etag });
  await session.answer({
    json: () => protoJson(HostSchema, host),
    table: () => session.success(`host ${host.name} is removed; nothing on the machine was touched`),
    names: () => [host.name],
  });
}

async function revoke(session: Session, { yes }: RemoveOptions, name: string): Promise<void> {
  const api = await session.api();
  const host = await api.hosts.getHost({ host: name });
  if (!yes) {
    const touched = (await listTouched(api, host)).join(", ") || "nothing";
    const what = `revoking host ${host.name} cuts its agent off at once and ends its work; it touches: ${touched}`;
    await confirm(session, { yes, what, name: host.name });
  }
  const revoked = await api.hosts.revokeHost({ host: host.id, etag: host.etag });
  await session.answer({
    json: () => protoJson(HostSchema, revoked),
    table: () =>
      session.success(`host ${host.name} has no access any more; its clusters and backups stay listed`, {
        next: `coppice host add ${host.name}`,
      }),
    names: () => [host.name],
  });
}

/** What is on the host or worked on by it, so that whoever confirms knows. */
async function listTouched(api: Api, { id }: Host): Promise<string[]> {
  const clusters = await collectPages(
    (page) => api.clusters.listClusters({ page }),
    ({ clusters }) => clusters.filter(({ instances }) => instances.some(({ host }) => host === id)),
  );
  const repositories = await collectPages(
    (page) => api.repositories.listRepositories({ page }),
    ({ repositories }) => repositories.filter(({ homeHost }) => homeHost === id),
  );
  const operations = await collectPages(
    (page) => api.operations.listOperations({ page, activeOnly: true }),
    ({ operations }) => operations.filter(({ host }) => host === id),
  );
  return [
    ...clusters.items.map(({ name }) => `cluster ${name}`),
    ...repositories.items.map(({ name }) => `repository ${name}`),
    ...operations.items.map((operation) => `operation ${operation.id}`),
  ];
}
