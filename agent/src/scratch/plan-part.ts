import type { PlanPhysicalResult } from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { type RestoreDatabaseCommand, RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { quoteNames, toCheckItem } from "../host/look.ts";
import { inspectRestore } from "../physical/restore/inspect.ts";
import { describeGround } from "../physical/restore/plan.ts";
import { isWhole, lookAtPart, type Part } from "./part.ts";
import { seeWanted } from "./see-wanted.ts";

function describeLoad({ mode, targetDatabase, stagedDatabase }: RestoreDatabaseCommand): string[] {
  const [target, staged] = [targetDatabase, stagedDatabase].map((name) => quoteNames([name]));
  if (mode === RestoreMode.INTO)
    return [`load it into the database ${target}, all of it in one transaction or nothing, and compare it`];
  const load = `create the database ${staged} beside what is there, load it, compare it with the dump`;
  if (mode !== RestoreMode.HOLD) return [load, `rename it to ${target}`];
  return [
    load,
    `where there is a database ${target}: leave both as they are, ${staged} closed, and say how the rows differ`,
    `once that is confirmed: end the sessions of ${target}; in one transaction rename it, to be kept, and ${staged} to ${target}`,
  ];
}

function describeComparing({ live, liveDatabase, liveProblem }: Part["command"]): string[] {
  if (live) return [`count the rows that differ from those of the live database ${quoteNames([liveDatabase])}`];
  return liveProblem === "" ? [] : [`rows are not compared with live ones: ${liveProblem}`];
}

/**
 * Says what bringing back a part would do and whether it would be refused; changes nothing. `isKnown`: the catalog has seen
 * the database.
 */
export async function planPart(part: Part, isKnown: boolean): Promise<PlanPhysicalResult> {
  const { command, places, restore } = part;
  const ground = await inspectRestore(restore);
  const plan = describeGround(restore, ground);
  plan.items.push(...[...(await lookAtPart(part, ground)), ...(await seeWanted(part, isKnown))].map(toCheckItem));
  const { load, file, database } = command;
  plan.steps.push(
    `dump ${isWhole(command) ? "" : "what is wanted of "}the database ${quoteNames([database])} as it is then, by pg_dump`,
    ...describeComparing(command),
    `stop that server, which nobody else can reach, and remove ${places.folder}`,
    ...(load ? describeLoad(load) : []),
    ...(file ? [`check ${file.path} by pg_restore, and give it its name`] : []),
  );
  return plan;
}
