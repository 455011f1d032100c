import { create } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { Option } from "commander";
import {
  ListOperationsResponseSchema,
  type Operation,
  OperationLogLineSchema,
  OperationResolution,
  OperationSchema,
  OperationState,
  OperationStateSchema,
} from "@coppice/proto/gen/coppice/control/v1/operation";
import { collectPages } from "../client/pages.ts";
import { addCommand, addGroup, type Execute } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { confirm } from "../input/confirm.ts";
import { limitOption, yesOption } from "../input/options.ts";
import { conclude } from "../operation/conclude.ts";
import { formatChildren, isGroup, listChildren } from "../operation/children.ts";
import { followOperation } from "../operation/follow.ts";
import { hasEnded } from "../client/has-ended.ts";
import { formatOutcome, workedMs } from "../operation/outcome.ts";
import { formatSetback } from "../operation/setback.ts";
import { formatDetails } from "../output/details.ts";
import { formatElapsed, formatRelative } from "../output/elapsed.ts";
import { enumLabel } from "../output/enum-label.ts";
import { printable } from "../output/printable.ts";
import { formatProgress } from "../operation/progress.ts";
import { protoJson } from "../output/proto-json.ts";
import { formatTable } from "../output/table.ts";
import { timeOf } from "../output/time.ts";
import type { Session } from "../session.ts";

interface ListOptions {
  readonly active?: boolean;
  readonly cluster?: string;
  readonly parent?: string;
  readonly limit: number;
}

interface CancelOptions {
  readonly wait?: boolean;
}

interface ResolveOptions {
  readonly yes?: boolean;
}

interface LogOptions {
  readonly follow?: boolean;
}

const operationArgument = ["<operation>", "id: op_…"] as const;
const exampleId = "op_01kaj3v8m2e7rv1q6c0d9w5x4t";

/** `coppice operation …` */
export function addOperationCommands(program: Command, execute: Execute): void {
  const group = addGroup(program, "operation", "long-running work: watch and cancel it", "op");
  addCommand<ListOptions>(group, execute, {
    name: "list",
    summary: "list operations, newest first",
    options: [
      new Option("--active", "only those that have not ended"),
      new Option("--cluster <cluster>", "only those on this cluster"),
      new Option("--parent <operation>", "only those that this one is made of"),
      limitOption(),
    ],
    examples: ["coppice operation list", "coppice operation list --active"],
    run: list,
  });
  addCommand(group, execute, {
    name: "get",
    summary: "show an operation with its attempts, and what it is made of",
    arguments: [operationArgument],
    examples: [`coppice operation get ${exampleId}`],
    run: get,
  });
  addCommand(group, execute, {
    name: "watch",
    summary: "watch an operation to its end; the exit code is the operation's",
    arguments: [operationArgument],
    examples: [`coppice operation watch ${exampleId}`],
    run: watch,
  });
  addCommand<CancelOptions>(group, execute, {
    name: "cancel",
    summary: "cancel an operation and wait until it has stopped and cleared away",
    arguments: [operationArgument],
    options: [new Option("--no-wait", "return as soon as the cancel is asked for")],
    examples: [`coppice operation cancel ${exampleId}`],
    run: cancel,
  });
  addCommand<ResolveOptions>(group, execute, {
    name: "resolve",
    summary: "end an indeterminate operation whose outcome nobody will find out",
    arguments: [operationArgument],
    options: [new Option("--abandon", "mark it as failed without a look").makeOptionMandatory(), yesOption()],
    examples: [`coppice operation resolve ${exampleId} --abandon`],
    run: resolve,
  });
  addCommand<LogOptions>(group, execute, {
    name: "logs",
    summary: "print the log of an operation",
    arguments: [operationArgument],
    options: [new Option("-f, --follow", "go on until the operation has ended")],
    examples: [`coppice operation logs ${exampleId} --follow`],
    run: logs,
  });
}

async function list(session: Session, options: ListOptions): Promise<void> {
  const api = await session.api();
  const { active = false, cluster = "", parent = "", limit } = options;
  const { items: operations, hasMore } = await collectPages(
    (page) => api.operations.listOperations({ page, activeOnly: active, cluster, parent }),
    ({ operations }) => operations,
    limit,
  );
  await session.answer({
    json: () => protoJson(ListOperationsResponseSchema, create(ListOperationsResponseSchema, { operations })),
    table: () =>
      operations.length === 0
        ? "no operations\n"
        : formatTable(
            [
              { title: "ID" },
              { title: "KIND", cut: true },
              { title: "STATE" },
              { title: "HOST", cut: true },
              { title: "ASKED" },
              { title: "TOOK", right: true },
            ],
            operations.map((operation) => [
              operation.id,
              operation.kind.replace(/^create_/, "").replaceAll("_", " "),
              enumLabel(OperationStateSchema, operation.state),
              operation.hostName,
              formatRelative(timeOf(operation.createTime), session.now()),
              operation.endTime ? formatElapsed(workedMs(operation), 1) : "-",
            ]),
          ) + (hasMore ? `only the newest ${limit} are shown: --limit\n` : ""),
    names: () => operations.map(({ id }) => id),
  });
}

function formatOperation(operation: Operation, { terminal, now }: Session): string {
  const { attempts, state } = operation;
  const details = formatDetails([
    ["id", operation.id],
    ["kind", operation.kind.replaceAll("_", " ")],
    ["state", hasEnded(operation) ? enumLabel(OperationStateSchema, state) : formatProgress(operation)],
    ["reason", hasEnded(operation) ? operation.stateReason : ""],
    ["host", operation.hostName],
    ["part of", operation.parent],
    ["asked for", `${formatRelative(timeOf(operation.createTime), now())} by ${operation.principal}`],
    ["because", operation.spec.case === "createPhysicalBackup" ? operation.spec.value.reason : ""],
    ["took", operation.endTime && formatElapsed(workedMs(operation))],
    ...attempts.map(
      ({ number, settling, failure, endTime }) =>
        [
          `attempt ${number}`,
          `${settling ? "looked how the one before ended" : "did the work"}: ` +
            (failure ? `${failure.reason}: ${failure.message}` : endTime ? "ended" : "goes on"),
        ] as const,
    ),
    ["left behind", operation.leavings.join("; ")],
  ]);
  if (state === OperationState.SUCCEEDED) {
    return details + formatOutcome(operation, { paint: terminal.paint, now: now() });
  }
  return hasEnded(operation) ? details + formatSetback(operation, terminal.paint).text : details;
}

async function get(session: Session, _options: object, id: string): Promise<void> {
  const api = await session.api();
  const operation = await api.operations.getOperation({ operation: id });
  const parts = isGroup(operation) && session.format === "table" ? formatChildren(await listChildren(api, id)) : "";
  await session.answer({
    json: () => protoJson(OperationSchema, operation),
    table: () => formatOperation(operation, session) + parts,
    names: () => [operation.id],
  });
}

async function watch(session: Session, _options: object, id: string): Promise<number> {
  const api = await session.api();
  return await conclude(session, api, await followOperation(session, api, id));
}

async function cancel(session: Session, { wait = true }: CancelOptions, id: string): Promise<number> {
  const api = await session.api();
  const asked = await api.operations.cancelOperation({ operation: id });
  if (!wait && !hasEnded(asked)) {
    await session.answer({
      json: () => protoJson(OperationSchema, asked),
      table: () => session.success(`${id} is being cancelled`, { next: `coppice operation watch ${id}` }),
      names: () => [id],
    });
    return exitCodes.done;
  }
  const ended = hasEnded(asked) ? asked : await followOperation(session, api, id);
  // It may have come to its own end before the cancel reached it.
  if (ended.state !== OperationState.CANCELLED) {
    session.terminal.err(`${id} ended before it could be cancelled\n`);
    await conclude(session, api, ended);
    return exitCodes.precondition;
  }
  const left = ended.leavings.length > 0 ? `left behind: ${ended.leavings.join("; ")}` : "nothing was left behind";
  await session.answer({
    json: () => protoJson(OperationSchema, ended),
    table: () => session.success(`${id} is cancelled; ${left}`),
    names: () => [id],
  });
  return exitCodes.done;
}

async function resolve(session: Session, { yes }: ResolveOptions, id: string): Promise<void> {
  const api = await session.api();
  await confirm(session, {
    yes,
    what: `abandoning ${id} marks it as failed although it may have been done: nobody looks any more, or clears away`,
    name: id,
  });
  const resolved = await api.operations.resolveOperation({
    operation: id,
    resolution: OperationResolution.ABANDON,
    requestId: session.newRequestId(),
  });
  await session.answer({
    json: () => protoJson(OperationSchema, resolved),
    table: () => session.success(`${id} is abandoned: ${resolved.stateReason}`),
    names: () => [id],
  });
}

async function logs(session: Session, { follow = false }: LogOptions, id: string): Promise<void> {
  const api = await session.api();
  const { terminal, format, signal } = session;
  // A log may be long and may go on: it is written line by line in every format.
  for await (const line of api.watchLog(id, { follow, signal })) {
    if (format === "json" || format === "yaml") {
      const json = JSON.stringify(protoJson(OperationLogLineSchema, line));
      terminal.out(format === "json" ? `${json}\n` : `- ${json}\n`);
    } else {
      terminal.out(`${timeOf(line.time)?.toISOString() ?? ""} ${printable(line.text)}\n`);
    }
  }
}
