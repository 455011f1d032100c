import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { type LogLine, LogLineSchema, type SessionRequestSchema } from "@coppice/proto/gen/coppice/agent/v1/session";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import type { CommandKey } from "../journal/record.ts";
import type { Work } from "./handler.ts";

/** A message of the session that is about commands; sequence and epoch are the session's business. */
export type AgentMessage = Exclude<
  NonNullable<MessageInitShape<typeof SessionRequestSchema>["message"]>,
  { case?: undefined }
>;

/** Takes messages to the control plane when there is a session; never blocks and never fails. */
export type Report = (message: AgentMessage) => void;

/** What a running command has to say while it runs: gathered, so that a busy one cannot flood the session. */
export interface Reporter extends Disposable {
  progress(work: Work): void;
  log(text: string): void;
  /** Hands over at once what was gathered. */
  flush(): void;
  /** What a new session has to be told of it once more; the control plane knows lines that it has already. */
  replay(): AgentMessage[];
}

const gatherMs = 250;
const linesPerChunk = 200;
const retainedLines = 1000;
const maxLineLength = 4096;

/** A reporter of one command. */
export function openReporter({ commandId, operationId, fence }: CommandKey, report: Report): Reporter {
  let timer: NodeJS.Timeout | undefined;
  let work: WorkDone | undefined;
  let isWorkNew = false;
  let lines: LogLine[] = [];
  let firstLine = 0n;
  let unsentLines = 0;
  let isDisposed = false;

  const workMessage = (value: WorkDone): AgentMessage => ({
    case: "progress",
    value: { commandId, operationId, fence, work: value },
  });
  const logMessages = (from: number): AgentMessage[] => {
    const messages: AgentMessage[] = [];
    for (let start = from; start < lines.length; start += linesPerChunk) {
      const chunk = lines.slice(start, start + linesPerChunk);
      messages.push({
        case: "logChunk",
        value: { operationId, fence, firstLine: firstLine + BigInt(start), lines: chunk },
      });
    }
    return messages;
  };
  const flush = () => {
    clearTimeout(timer);
    timer = undefined;
    if (isWorkNew && work) report(workMessage(work));
    isWorkNew = false;
    for (const message of logMessages(lines.length - unsentLines)) report(message);
    unsentLines = 0;
  };
  const gather = () => {
    if (!isDisposed) timer ??= setTimeout(flush, gatherMs);
  };

  return {
    progress(next) {
      const isOtherPhase = next.phase !== work?.phase;
      work = create(WorkDoneSchema, next);
      isWorkNew = true;
      // What people wait for is seen at once; only the numbers within a phase are gathered.
      if (isOtherPhase) flush();
      else gather();
    },
    log(text) {
      lines.push(create(LogLineSchema, { time: timestampNow(), text: text.slice(0, maxLineLength) }));
      unsentLines++;
      if (lines.length > retainedLines) {
        const dropped = lines.length - retainedLines;
        lines = lines.slice(dropped);
        firstLine += BigInt(dropped);
        unsentLines = Math.min(unsentLines, lines.length);
      }
      if (unsentLines >= linesPerChunk) flush();
      else gather();
    },
    flush,
    replay: () => [...(work ? [workMessage(work)] : []), ...logMessages(0)],
    [Symbol.dispose]() {
      isDisposed = true;
      clearTimeout(timer);
    },
  };
}
