import type { Cluster } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { parseInstant } from "@coppice/proto/kit/recovery-point/instant";
import type { Dialogue } from "../../input/choose.ts";
import type { RestoreFlags } from "../../input/restore/restore-flags.ts";

const anything = () => undefined;

/** The moment itself: what is shown first and done later is of the same one, however long the answers take. */
function fixInstant(text: string, now: Date): string {
  const micros = parseInstant(text, now);
  const seconds = new Date(Number(micros / 1000n)).toISOString().slice(0, 19);
  return `${seconds}.${String(micros % 1_000_000n).padStart(6, "0")}Z`;
}

function checkInstant(text: string, now: Date): string | undefined {
  try {
    parseInstant(text, now);
    return undefined;
  } catch (error) {
    if (!isFailure(error)) throw error;
    return `${error.message}: ${error.hint}`;
  }
}

async function chooseDatabase(dialogue: Dialogue, { databases }: Cluster): Promise<string> {
  const there = databases.map(({ name }) => ({ name, value: name }));
  const another = { name: "another one, which is gone since", value: "" };
  const chosen = there.length === 0 ? "" : await dialogue.select("which database?", [...there, another]);
  return chosen === "" ? await dialogue.text("name of the database then?") : chosen;
}

/**
 * Asks for a point in time, and what of a database as it was then is to go where. `targets` are other clusters with a
 * server. Errors: CLUSTER_WITHOUT_SERVER.
 */
export async function choosePoint(
  dialogue: Dialogue,
  { source, targets, now }: { readonly source: Cluster; readonly targets: readonly Cluster[]; readonly now: Date },
): Promise<RestoreFlags> {
  const places = [
    ...(source.instances.length > 0 ? [{ name: `${source.name}, under a new name`, value: source.name }] : []),
    ...targets.map(({ name }) => ({ name: `${name}: another cluster`, value: name })),
  ];
  if (places.length === 0) fail("CLUSTER_WITHOUT_SERVER", `there is no server to restore ${source.name} into`);
  const when = "as it was when? (a day and time with a zone, or such as: 2 hours ago)";
  const at = fixInstant(await dialogue.text(when, { check: (answer) => checkInstant(answer, now) }), now);
  const database = await chooseDatabase(dialogue, source);
  const tables = await dialogue.text("only some of its tables? (schema.name, …; empty: all of it)", {
    check: anything,
  });
  const table = tables.split(",").flatMap((each) => each.trim() || []);
  const to = await dialogue.select("where to?", places);
  const as = await dialogue.text("name for the database that holds it?", { initial: `${database}-before` });
  return {
    at,
    database,
    as,
    ...(table.length > 0 ? { table } : {}),
    ...(to === source.name ? {} : { to }),
  };
}
