import { type Command, Option } from "commander";
import { ClusterSchema, type Instance, InstanceRoleSchema } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { addCommand, type Execute } from "../../command.ts";
import { type EndpointOptions, endpointFromOptions, endpointOptions, formatEndpoint } from "../../input/endpoint.ts";
import { yesOption } from "../../input/options.ts";
import { type PasswordOptions, passwordOptions, readPassword } from "../../input/password.ts";
import { formatRelative } from "../../output/elapsed.ts";
import { enumLabel } from "../../output/enum-label.ts";
import { protoJson } from "../../output/proto-json.ts";
import { formatTable } from "../../output/table.ts";
import { timeOf } from "../../output/time.ts";
import type { Session } from "../../session.ts";

interface AddOptions extends EndpointOptions, PasswordOptions {
  readonly host: string;
}

/** `coppice cluster add-instance` and `remove-instance`. */
export function addInstanceCommands(group: Command, execute: Execute): void {
  addCommand<AddOptions>(group, execute, {
    name: "add-instance",
    summary: "name one more server of a cluster, such as a standby that backups can be taken of",
    arguments: [["<cluster>", "name or id"]],
    options: [
      new Option("--host <host>", "host whose agent protects it").makeOptionMandatory(),
      ...endpointOptions(),
      ...passwordOptions(),
    ],
    examples: [
      "coppice cluster add-instance shop --host db9",
      "coppice cluster add-instance shop --host db9 --endpoint 127.0.0.1:5432 --user coppice --password-stdin < file",
    ],
    run: add,
  });
  addCommand(group, execute, {
    name: "remove-instance",
    summary: "forget a server of a cluster; the server itself is not touched",
    arguments: [
      ["<cluster>", "name or id"],
      ["<server>", "name of its host, or its id: ins_…"],
    ],
    options: [yesOption()],
    examples: ["coppice cluster remove-instance shop db9"],
    run: remove,
  });
}

/** `--instance`, which names a server. */
export const instanceOption = (what: string, otherwise: string) =>
  new Option("--instance <server>", `server ${what}: name of its host, or its id (${otherwise})`);

/** The server of that id or host; the only one where none is named, undefined where that is for the control plane to refuse. */
export function findInstance(instances: readonly Instance[], reference = ""): Instance | undefined {
  const named = (one: Instance) => [one.id, one.host, one.hostName].includes(reference);
  const [only, ...others] = reference === "" ? instances : instances.filter(named);
  return others.length === 0 ? only : undefined;
}

/** Servers of a cluster that has several, in a table. */
export function formatInstances(instances: readonly Instance[], now: Date): string {
  const reached = ({ reachable, reachableTime }: Instance) => {
    if (reachable === undefined) return "not tried";
    return `${reachable ? "yes" : "no"}, ${formatRelative(timeOf(reachableTime), now)}`;
  };
  return formatTable(
    [
      { title: "SERVER", cut: true },
      { title: "ENDPOINT", cut: true },
      { title: "ROLE" },
      { title: "REACHABLE", cut: true },
      { title: "ID" },
    ],
    instances.map((one) => [
      one.hostName,
      formatEndpoint(one.endpoint),
      one.role ? enumLabel(InstanceRoleSchema, one.role) : "not known",
      reached(one),
      one.id,
    ]),
  );
}

async function add(session: Session, options: AddOptions, name: string): Promise<void> {
  const endpoint = endpointFromOptions(options);
  const api = await session.api();
  const password = await readPassword(session, options);
  const cluster = await api.clusters.addInstance({
    cluster: name,
    host: options.host,
    ...(endpoint && { endpoint }),
    ...(password !== undefined && { password }),
    requestId: session.newRequestId(),
  });
  const added = cluster.instances.at(-1);
  await session.answer({
    json: () => protoJson(ClusterSchema, cluster),
    table: () =>
      session.success(
        `cluster ${cluster.name} has the server ${formatEndpoint(added?.endpoint)}, by the agent of ${added?.hostName}; not tried yet`,
        { facts: describeLogin(added, password !== undefined), next: `coppice cluster check ${cluster.name}` },
      ),
    names: () => [added?.id ?? ""],
  });
}

/** By which role a new server is logged in to; what was not said is taken over from the cluster. */
function describeLogin(added: Instance | undefined, isGiven: boolean): string[] {
  if (added === undefined || added.endpoint?.service) return [];
  const { user = "", sslmode = "", sslrootcert = "" } = added.endpoint ?? {};
  const role = `its role is ${JSON.stringify(user || "postgres")}`;
  const ours = added.hasPassword ? "with the password that the cluster has already" : "without a password";
  return [
    `${role}, ${isGiven ? "with the password that was given" : ours}`,
    ...(sslmode === ""
      ? []
      : [`its sslmode is ${sslmode}${sslrootcert && `, with the roots in ${sslrootcert} there`}`]),
  ];
}

async function remove(session: Session, _options: object, name: string, reference: string): Promise<void> {
  const api = await session.api();
  const before = await api.clusters.getCluster({ cluster: name });
  const instance = findInstance(before.instances, reference)?.id ?? reference;
  const cluster = await api.clusters.removeInstance({ cluster: before.id, instance, etag: before.etag });
  await session.answer({
    json: () => protoJson(ClusterSchema, cluster),
    table: () =>
      session.success(`cluster ${cluster.name} no longer has the server ${reference}, which was not touched`),
    names: () => [cluster.name],
  });
}
