// All commands of one noun: what is shown of a cluster and what can be changed about it belong together.
import { create } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { Option } from "commander";
import {
  type Cluster,
  ClusterSchema,
  DiscoverClustersResponseSchema,
  ListClustersResponseSchema,
} from "@coppice/proto/gen/coppice/control/v1/cluster";
import { fail } from "@coppice/proto/kit/failure";
import { collectPages } from "../client/pages.ts";
import { addCommand, addGroup, type Execute } from "../command.ts";
import { backupRoleStatements, makeRolePassword } from "./cluster/backup-role.ts";
import { checkCluster, type CheckOptions, checkOptions } from "./cluster/check.ts";
import { formatCluster, reachability } from "./cluster/describe.ts";
import { addInstanceCommands, findInstance, instanceOption } from "./cluster/instance.ts";
import { describeLeftSlot } from "./cluster/left-slot.ts";
import { describeUnknown, formatRunState } from "./cluster/run-state.ts";
import { type EndpointOptions, endpointFromOptions, endpointOptions, formatEndpoint } from "../input/endpoint.ts";
import { labelOption, repeatableOption, yesOption } from "../input/options.ts";
import { type PasswordOptions, passwordOptions, readPassword } from "../input/password.ts";
import { formatRelative } from "../output/elapsed.ts";
import { printable } from "../output/printable.ts";
import { protoJson } from "../output/proto-json.ts";
import { shellWord } from "../output/shell-word.ts";
import { formatSuccess } from "../output/success.ts";
import { formatTable } from "../output/table.ts";
import { timeOf } from "../output/time.ts";
import type { Session } from "../session.ts";

interface AddOptions extends EndpointOptions, PasswordOptions {
  readonly host: string;
  readonly createRole?: boolean;
  readonly label?: Record<string, string>;
}

interface UpdateOptions extends EndpointOptions, PasswordOptions {
  readonly host?: string;
  readonly instance?: string;
  readonly name?: string;
  readonly label?: Record<string, string>;
  readonly unlabel?: readonly string[];
  /** False with `--no-password`. */
  readonly password?: boolean;
}

interface ListOptions {
  readonly discovered?: boolean;
}

const clusterArgument = ["<cluster>", "name or id"] as const;

/** `coppice cluster …` */
export function addClusterCommands(program: Command, execute: Execute): void {
  const group = addGroup(program, "cluster", "PostgreSQL clusters that are protected");
  addCommand<AddOptions>(group, execute, {
    name: "add",
    summary: "protect a cluster; without an endpoint the only unprotected one that runs on the host",
    arguments: [["<name>", "name for the cluster"]],
    options: [
      new Option("--host <host>", "host whose agent protects it").makeOptionMandatory(),
      ...endpointOptions(),
      ...passwordOptions(),
      new Option(
        "--create-role",
        "print the SQL that makes the role (coppice) with no more rights than dumps need; its new password is stored sealed",
      ).conflicts(["askPassword", "passwordStdin"]),
      labelOption(),
    ],
    examples: [
      "coppice cluster add shop --host db7",
      "coppice cluster add shop --host db7 --endpoint /run/postgresql --port 5433",
      "coppice cluster add crm --host db7 --endpoint crm.example.org --user backup --password-stdin < file",
      "coppice cluster add crm --host db7 --endpoint 127.0.0.1:5432 --create-role > role.sql",
    ],
    run: (session, options, name) =>
      options.createRole ? addWithRole(session, options, name) : add(session, options, name),
  });
  addCommand<ListOptions>(group, execute, {
    name: "list",
    summary: "list the protected clusters, or those that agents found and nobody protects",
    options: [new Option("--discovered", "list the unprotected clusters that agents found")],
    examples: ["coppice cluster list", "coppice cluster list --discovered"],
    run: (session, { discovered }) => (discovered ? listDiscovered(session) : list(session)),
  });
  addCommand(group, execute, {
    name: "get",
    summary: "show a cluster with its databases",
    arguments: [clusterArgument],
    examples: ["coppice cluster get shop"],
    run: get,
  });
  addInstanceCommands(group, execute);
  addCommand<CheckOptions>(group, execute, {
    name: "check",
    summary: "connect to each server of a cluster, look whether it can be protected, and say what mends what is wrong",
    arguments: [clusterArgument],
    options: checkOptions(),
    examples: [
      "coppice cluster check shop",
      "coppice cluster check shop --fix",
      "coppice cluster check shop --instance db9",
    ],
    run: checkCluster,
  });
  addCommand<UpdateOptions>(group, execute, {
    name: "update",
    summary: "change a cluster's name, labels, endpoint, password, or the host whose agent protects it",
    arguments: [clusterArgument],
    options: [
      new Option("--name <name>", "new name"),
      new Option(
        "--host <host>",
        "host whose agent protects it from now on; archiving of WAL moves there once the agent of before has stopped",
      ),
      ...endpointOptions(),
      ...passwordOptions(),
      new Option("--no-password", "forget the stored password"),
      instanceOption("whose endpoint, password or host changes", "the only one"),
      labelOption(),
      repeatableOption("--unlabel <key>", "label to take away (may be repeated)"),
    ],
    examples: [
      "coppice cluster update shop --port 5433",
      "coppice cluster update shop --password-stdin < file",
      "coppice cluster update shop --host db8 --endpoint 127.0.0.1:5432",
    ],
    run: update,
  });
  addCommand(group, execute, {
    name: "remove",
    summary: "forget a cluster that has no backups; the cluster itself is not touched",
    arguments: [clusterArgument],
    options: [yesOption()],
    examples: ["coppice cluster remove shop"],
    run: remove,
  });
}

async function add(session: Session, options: AddOptions, name: string): Promise<void> {
  const endpoint = endpointFromOptions(options);
  const api = await session.api();
  const password = await readPassword(session, options);
  const cluster = await api.clusters.createCluster({
    name,
    host: options.host,
    ...(endpoint && { endpoint }),
    ...(password !== undefined && { password }),
    labels: options.label ?? {},
    requestId: session.newRequestId(),
  });
  const [instance] = cluster.instances;
  await session.answer({
    json: () => protoJson(ClusterSchema, cluster),
    table: () =>
      session.success(
        `cluster ${cluster.name} is added: ${formatEndpoint(instance?.endpoint)}, by the agent of ${instance?.hostName}; not tried yet`,
        { next: `coppice cluster check ${cluster.name}` },
      ),
    names: () => [cluster.name],
  });
}

/** Registers a cluster with a role that is yet to be made, and prints what makes it: nothing is run anywhere. */
async function addWithRole(session: Session, options: AddOptions, name: string): Promise<void> {
  const role = options.user ?? "coppice";
  const endpoint = endpointFromOptions({ ...options, user: role });
  if (endpoint?.address.case === undefined) {
    return fail("INVALID_FIELD", "--create-role needs to know where the server listens", {
      hint: "give --endpoint 127.0.0.1:5432, where Debian lets roles in by password",
    });
  }
  const odd = [role, endpoint.maintenanceDatabase].find((one) => one !== printable(one));
  if (odd !== undefined) {
    fail("INVALID_FIELD", `${printable(odd)} cannot stand in a script`, { hint: "choose another --user" });
  }
  const api = await session.api();
  const { password, verifier } = makeRolePassword();
  const cluster = await api.clusters.createCluster({
    name,
    host: options.host,
    endpoint,
    password,
    labels: options.label ?? {},
    requestId: session.newRequestId(),
  });
  const statements = backupRoleStatements({
    role,
    verifier,
    maintenanceDatabase: endpoint.maintenanceDatabase || "postgres",
    isSocket: endpoint.address.case === "socketDirectory",
  });
  // The answer is the script alone, so that it can be fed to psql.
  const added = `cluster ${cluster.name} is added; its role ${role} is not made yet: run what is printed as a superuser`;
  const { terminal } = session;
  terminal.err(formatSuccess(terminal.paintErr, added, { next: `coppice cluster check ${cluster.name}` }));
  await session.answer({
    json: () => ({ cluster: protoJson(ClusterSchema, cluster), statements }),
    table: () => statements,
    names: () => [cluster.name],
  });
}

async function list(session: Session): Promise<void> {
  const api = await session.api();
  const { items: clusters } = await collectPages(
    (page) => api.clusters.listClusters({ page }),
    ({ clusters }) => clusters,
  );
  const row = (cluster: Cluster) => [
    cluster.name,
    cluster.instances.map(({ hostName }) => hostName).join(","),
    cluster.instances.map(({ endpoint }) => formatEndpoint(endpoint)).join(","),
    cluster.incarnations.at(-1)?.major.toString() ?? "-",
    reachability(cluster),
    formatRelative(timeOf(cluster.lastGoodDump?.time), session.now()),
  ];
  await session.answer({
    json: () => protoJson(ListClustersResponseSchema, create(ListClustersResponseSchema, { clusters })),
    table: () =>
      clusters.length === 0
        ? "no clusters\n  next: coppice cluster list --discovered\n"
        : formatTable(
            [
              { title: "NAME", cut: true },
              { title: "HOST", cut: true },
              { title: "ENDPOINT", cut: true },
              { title: "MAJOR", right: true },
              { title: "REACHABLE" },
              { title: "LAST GOOD DUMP" },
            ],
            clusters.map(row),
          ),
    names: () => clusters.map(({ name }) => name),
  });
}

async function listDiscovered(session: Session): Promise<void> {
  const api = await session.api();
  const response = await api.clusters.discoverClusters({});
  const found = response.hosts.flatMap(({ hostName, clusters }) =>
    clusters.map((cluster) => ({ hostName, ...cluster })),
  );
  const offer = found.find(({ running }) => running);
  const next = offer && `coppice cluster add NAME --host ${offer.hostName}${endpointFlags(offer.endpoint)}`;
  await session.answer({
    json: () => protoJson(DiscoverClustersResponseSchema, response),
    table: () =>
      found.length === 0
        ? "no unprotected clusters were found\n"
        : formatTable(
            [
              { title: "HOST", cut: true },
              { title: "MAJOR", right: true },
              { title: "STATE" },
              { title: "ENDPOINT", cut: true },
              { title: "DATA DIRECTORY", cut: true },
            ],
            found.map((one) => [
              one.hostName,
              String(one.major),
              formatRunState(one),
              formatEndpoint(one.endpoint),
              one.dataDirectory,
            ]),
          ) +
          describeUnknown(found) +
          (next ? `  next: ${next}\n` : ""),
    names: () => found.map(({ hostName, endpoint }) => `${hostName}:${formatEndpoint(endpoint)}`),
  });
}

function endpointFlags(endpoint: Parameters<typeof formatEndpoint>[0]): string {
  if (endpoint?.address.case === undefined) return "";
  return ` --endpoint ${shellWord(endpoint.address.value)}${endpoint.port ? ` --port ${endpoint.port}` : ""}`;
}

async function get(session: Session, _options: object, name: string): Promise<void> {
  const api = await session.api();
  const cluster = await api.clusters.getCluster({ cluster: name });
  await session.answer({
    json: () => protoJson(ClusterSchema, cluster),
    table: () => formatCluster(cluster, session.now()),
    names: () => [cluster.name],
  });
}

async function update(session: Session, options: UpdateOptions, name: string): Promise<void> {
  const api = await session.api();
  const before = await api.clusters.getCluster({ cluster: name });
  const changed = findInstance(before.instances, options.instance);
  const endpoint = endpointFromOptions(options, changed?.endpoint);
  const password = options.password === false ? "" : await readPassword(session, options);
  const labels = { ...before.labels, ...options.label };
  for (const key of options.unlabel ?? []) delete labels[key];
  const paths = [
    ...(options.name === undefined ? [] : ["name"]),
    ...(endpoint ? ["endpoint"] : []),
    ...(password === undefined ? [] : ["password"]),
    ...(options.label || options.unlabel ? ["labels"] : []),
    ...(options.host === undefined ? [] : ["host"]),
  ];
  if (paths.length === 0) fail("INVALID_FIELD", "there is nothing to change", { hint: "name what to change: --help" });
  const cluster = await api.clusters.updateCluster({
    cluster: before.id,
    updateMask: { paths },
    name: options.name ?? "",
    labels,
    ...(endpoint && { endpoint }),
    password: password ?? "",
    host: options.host ?? "",
    instance: options.instance ?? "",
    etag: before.etag,
  });
  const isMoved = options.host !== undefined;
  const archive = isMoved || endpoint ? await api.clusters.getWalArchive({ cluster: cluster.id }) : undefined;
  const isMoving = isMoved && archive?.ownership?.nextHost;
  const wal = isMoving ? `; WAL follows once the agent of ${archive.hostName} has stopped` : "";
  const isArchived = archive && changed?.host === archive.host;
  const left = isArchived && endpoint && !isMoved ? describeLeftSlot(archive) : "";
  await session.answer({
    json: () => protoJson(ClusterSchema, cluster),
    table: () =>
      session.success(`cluster ${cluster.name} is changed: ${paths.join(", ")}${wal}${left}`, {
        next: isMoving ? `coppice wal status ${cluster.name}` : `coppice cluster check ${cluster.name}`,
      }),
    names: () => [cluster.name],
  });
}

async function remove(session: Session, _options: object, name: string): Promise<void> {
  const api = await session.api();
  const cluster = await api.clusters.getCluster({ cluster: name });
  await api.clusters.deleteCluster({ cluster: cluster.id, etag: cluster.etag });
  await session.answer({
    json: () => protoJson(ClusterSchema, cluster),
    table: () => session.success(`cluster ${cluster.name} is forgotten; the cluster itself was not touched`),
    names: () => [cluster.name],
  });
}
