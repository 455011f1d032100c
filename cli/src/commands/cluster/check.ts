import { Option } from "commander";
import { create } from "@bufbuild/protobuf";
import type { Instance } from "@coppice/proto/gen/coppice/control/v1/cluster";
import {
  ListOperationsResponseSchema,
  type Operation,
  OperationState,
} from "@coppice/proto/gen/coppice/control/v1/operation";
import { fail } from "@coppice/proto/kit/failure";
import type { Api } from "../../client/api.ts";
import { exitCodes } from "../../exit-code.ts";
import { confirm } from "../../input/confirm.ts";
import { formatEndpoint } from "../../input/endpoint.ts";
import { operationOptions, yesOption } from "../../input/options.ts";
import { conclude, type OperationOptions, seeThrough } from "../../operation/conclude.ts";
import { liveStatements } from "../../operation/checks.ts";
import { followOperation } from "../../operation/follow.ts";
import { formatOutcome, sawTrouble } from "../../operation/outcome.ts";
import { printable } from "../../output/printable.ts";
import { protoJson } from "../../output/proto-json.ts";
import type { Session } from "../../session.ts";
import { instanceOption } from "./instance.ts";

/** Flags of `coppice cluster check`. */
export interface CheckOptions extends OperationOptions {
  readonly instance?: string;
  readonly fix?: boolean;
  readonly yes?: boolean;
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
  const { id: cluster, instances } = await api.clusters.getCluster({ cluster: name });
  if (options.instance !== undefined || instances.length < 2) {
    return await checkServer(session, api, options, { cluster, instance: options.instance ?? "" });
  }
  if (session.format !== "table") return await checkTogether(session, api, options, { cluster, instances });
  let worst: number = exitCodes.done;
  for (const { id: instance, hostName, endpoint } of instances) {
    session.terminal.err(`${formatEndpoint(endpoint)}, by the agent of ${hostName}:\n`);
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
  { cluster, instances }: { readonly cluster: string; readonly instances: readonly Instance[] },
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

async function checkServer(
  session: Session,
  api: Api,
  options: CheckOptions,
  server: { readonly cluster: string; readonly instance: string },
): Promise<number> {
  const { fix = false, yes } = options;
  const started = await api.clusters.checkCluster({ ...server, requestId: session.newRequestId() });
  if (!fix) return await seeThrough(session, api, started, options);
  const seen = await followOperation(session, api, started.id);
  const { result, spec, state } = seen;
  if (state !== OperationState.SUCCEEDED || result.case !== "checkedCluster" || spec.case !== "checkCluster")
    return await conclude(session, api, seen);
  const statements = liveStatements(result.value.items);
  if (statements.length === 0) return await conclude(session, api, seen);
  const { terminal } = session;
  terminal.err(formatOutcome(seen, { paint: terminal.paintErr, now: session.now() }));
  terminal.err(`${statements.map((each) => `  ${printable(each)}`).join("\n")}\n`);
  const { clusterName: name } = spec.value;
  const count = statements.length === 1 ? "this statement is" : `these ${statements.length} statements are`;
  await confirm(session, { yes, what: `${count} run in cluster ${name}, as the role it is protected with`, name });
  const request = { ...server, statements, requestId: session.newRequestId() };
  return await seeThrough(session, api, await api.clusters.fixCluster(request), options);
}
