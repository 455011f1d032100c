import { create } from "@bufbuild/protobuf";
import { WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { FindingService } from "@coppice/proto/gen/coppice/control/v1/finding";
import { OperationService, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { eq, sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { operation, operationAttempt } from "../../control-plane/src/catalog/schema/operation.ts";
import { openControlPlaneLab } from "../support/control-plane-lab.ts";
import { openOperationLab } from "../support/operation-lab.ts";

const heartbeatMs = 1000;

test("an operation that does not move is a finding until it moves, and again when its cancel does not help", async () => {
  await using lab = await openControlPlaneLab({ heartbeatMs });
  const db = await openOperationLab(lab, "stalled", heartbeatMs);
  using agent = await db.connect();
  const id = await db.backUp();
  const command = await agent.next("command");
  agent.accept(command);
  await db.until(id, OperationState.RUNNING);
  const tell = async (item: string, doneBytes: bigint) => {
    const { revision } = await rowOf();
    const work = create(WorkDoneSchema, { phase: "dumping", item, doneBytes });
    agent.send({ case: "progress", value: { operationId: id, fence: command.fence!, work } });
    await expect.poll(async () => (await rowOf()).revision > revision).toBe(true);
  };
  const rowOf = async () => {
    const [row] = await lab.catalog.db.select().from(operation).where(eq(operation.id, id));
    return row!;
  };
  /** Sets the clock forward, by what was noted until now. */
  const passMinutes = async (minutes: number) => {
    const earlier = (column: "progress_time" | "start_time" | "cancel_time") =>
      sql`${sql.identifier(column)} - ${minutes} * interval '1 minute'`;
    await lab.catalog.db
      .update(operation)
      .set({ progressTime: earlier("progress_time"), cancelTime: earlier("cancel_time") })
      .where(eq(operation.id, id));
    await lab.catalog.db
      .update(operationAttempt)
      .set({ startTime: earlier("start_time") })
      .where(eq(operationAttempt.operationId, id));
  };
  const found = async () => {
    const { findings } = await lab.client(FindingService).listFindings({});
    return findings.filter(({ rule }) => rule === "operation-stalled").map(({ message }) => message);
  };
  const named = `operation ${id} (create backup of cluster stalled) on stalled`;
  await passMinutes(31);
  expect(await found()).toEqual([`${named} has not moved for 31 min: it has told nothing yet`]);
  await tell("orders", 5n);
  expect(await found()).toEqual([]);
  await passMinutes(40);
  // As to each new session: it is nothing new.
  await tell("orders", 5n);
  expect(await found()).toEqual([`${named} has not moved for 40 min: it is at dumping orders`]);
  await tell("orders", 6n);
  expect(await found()).toEqual([]);
  await passMinutes(29);
  expect(await found()).toEqual([]);
  await lab.client(OperationService).cancelOperation({ operation: id });
  await passMinutes(33);
  expect(await found()).toEqual([`${named} was cancelled and has not ended for 33 min: it is at dumping orders`]);
  agent.answer(command, { failure: { reason: "CANCELLED", message: "cancelled" } });
  await expect.poll(found).toEqual([]);
});
