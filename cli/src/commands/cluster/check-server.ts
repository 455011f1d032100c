import { OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { Api } from "../../client/api.ts";
import { confirm } from "../../input/confirm.ts";
import { liveStatements } from "../../operation/checks.ts";
import { conclude, type OperationOptions, seeThrough } from "../../operation/conclude.ts";
import { followOperation } from "../../operation/follow.ts";
import { formatOutcome } from "../../operation/outcome.ts";
import { printable } from "../../output/printable.ts";
import type { Session } from "../../session.ts";

/** How a server is looked at. */
export interface CheckServerOptions extends OperationOptions {
  readonly fix?: boolean;
  readonly yes?: boolean;
}

/** Looks at one server of a cluster, the main one where none is named, mends what was confirmed, and gives the exit code. */
export async function checkServer(
  session: Session,
  api: Api,
  options: CheckServerOptions,
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
