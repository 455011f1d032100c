import { create } from "@bufbuild/protobuf";
import { Option } from "commander";
import type { Cluster, Instance } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { HostState } from "@coppice/proto/gen/coppice/control/v1/host";
import {
  ListOperationsResponseSchema,
  type Operation,
  OperationState,
} from "@coppice/proto/gen/coppice/control/v1/operation";
import { fail } from "@coppice/proto/kit/failure";
import type { Api } from "../../client/api.ts";
import { collectPages } from "../../client/pages.ts";
import { exitCodes } from "../../exit-code.ts";
import { formatEndpoint } from "../../input/endpoint.ts";
import { operationOptions, yesOption } from "../../input/options.ts";
import { followOperation } from "../../operation/follow.ts";
import { sawTrouble } from "../../operation/outcome.ts";
import { formatFindings } from "../../output/findings.ts";
import { printable } from "../../output/printable.ts";
import { protoJson } from "../../output/proto-json.ts";
import type { Session } from "../../session.ts";
import { agentState } from "../host.ts";
import { checkServer, type CheckServerOptions } from "./check-server.ts";
import { instanceOption } from "./instance.ts";

/** Flags of `coppice cluster check`. */
export interface CheckOptions extends CheckServerOptions {
  readonly instance?: string;
}

/** Its options. */
export const checkOptions = () => [
  new Option(
    "--fix",
    "show the statements that mend what was found without a restart, ask, run them as the cluster's role, and check again",
  ),
  yesOption(),
  instanceOption("that is looked at", "all of them, one after the other"),
  ...operationOptions(),
];

/** Looks whether a cluster can be protected, at each of its servers, mends what was confirmed, and gives the exit code. */
export async function checkCluster(session: Session, options: CheckOptions, name: string): Promise<number> {
  if (options.fix && options.wait === false)
    fail("INVALID_FIELD", "--fix has to wait for what the check finds", { hint: "leave --no-wait out" });
  const api = await session.api();
  const cluster = await api.clusters.getCluster({ cluster: name });
  if (options.instance !== undefined || cluster.instances.length < 2) {
    return await checkServer(session, api, options, { cluster: cluster.id, instance: options.instance ?? "" });
  }
  const present = await presentOf(session, api, cluster);
  const isTable = session.format === "table";
  const seen = await (isTable ? checkEach : checkTogether)(session, api, options, { ...cluster, instances: present });
  const rivals = await tellRivals(session, api, cluster.id);
  if (seen !== exitCodes.done) return seen;
  if (present.length < cluster.instances.length) return exitCodes.unreachable;
  return rivals ? exitCodes.failed : exitCodes.done;
}

/** The servers whose agents are connected: nobody would answer for the others, which are named. */
async function presentOf(session: Session, api: Api, { instances }: Cluster): Promise<Instance[]> {
  const { items: hosts } = await collectPages(
    (page) => api.hosts.listHosts({ page }),
    ({ hosts }) => hosts,
  );
  return instances.filter(({ host, hostName, endpoint }) => {
    const found = hosts.find(({ id }) => id === host);
    if (found === undefined || found.state === HostState.CONNECTED) return true;
    const why = `the agent of ${hostName} is away (${agentState(found, session.now())})`;
    session.terminal.err(`✗ ${printable(formatEndpoint(endpoint))} is not looked at: ${printable(why)}\n`);
    return false;
  });
}

/** Whether several servers of it say that they are the primary, as they were seen just now; they are named. */
async function tellRivals(session: Session, api: Api, cluster: string): Promise<boolean> {
  const { findings } = await api.findings.listFindings({});
  const rivals = findings.filter(({ rule, subject }) => rule === "two-primaries" && subject === cluster);
  session.terminal.err(formatFindings(rivals, session.terminal.paintErr, session.now()));
  return rivals.length > 0;
}

async function checkEach(
  session: Session,
  api: Api,
  options: CheckOptions,
  { id: cluster, instances }: Pick<Cluster, "id" | "instances">,
): Promise<number> {
  let worst: number = exitCodes.done;
  for (const { id: instance, hostName, endpoint } of instances) {
    session.terminal.err(`${printable(formatEndpoint(endpoint))}, by the agent of ${printable(hostName)}:\n`);
    const exitCode = await checkServer(session, api, options, { cluster, instance });
    if (worst === exitCodes.done) worst = exitCode;
  }
  return worst;
}

/** The same for programs: one answer with the operations of all of them. */
async function checkTogether(
  session: Session,
  api: Api,
  { fix, wait = true }: CheckOptions,
  { id: cluster, instances }: Pick<Cluster, "id" | "instances">,
): Promise<number> {
  if (fix) fail("INVALID_FIELD", "--fix asks at each server", { hint: "name one: --instance; or leave --output out" });
  const operations: Operation[] = [];
  for (const { id: instance } of instances) {
    const started = await api.clusters.checkCluster({ cluster, instance, requestId: session.newRequestId() });
    operations.push(wait ? await followOperation(session, api, started.id) : started);
  }
  await session.answer({
    json: () => protoJson(ListOperationsResponseSchema, create(ListOperationsResponseSchema, { operations })),
    table: () => "",
    names: () => operations.map(({ id }) => id),
  });
  if (!wait) return exitCodes.done;
  const isWell = (one: Operation) => one.state === OperationState.SUCCEEDED && !sawTrouble(one);
  return operations.every(isWell) ? exitCodes.done : exitCodes.failed;
}
