import type { Cluster } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { fail } from "@coppice/proto/kit/failure";
import type { Dialogue } from "../../input/choose.ts";
import type { RestoreFlags } from "../../input/restore/restore-flags.ts";

/** A restore of a file, and the cluster that it goes to. */
export interface FileRestore {
  readonly cluster: string;
  readonly flags: RestoreFlags;
}

const anything = () => undefined;

/** Asks for a dump that Coppice did not make, and where it goes. Errors: CLUSTER_WITHOUT_SERVER. */
export async function chooseFile(dialogue: Dialogue, clusters: readonly Cluster[]): Promise<FileRestore> {
  const targets = clusters.filter(({ instances }) => instances.length > 0);
  if (targets.length === 0) fail("CLUSTER_WITHOUT_SERVER", "there is no server to restore a file into");
  const cluster = await dialogue.select(
    "into which cluster?",
    targets.map(({ name }) => ({ name, value: name })),
  );
  const check = (answer: string) =>
    /^[a-z0-9_-]+:\/./.test(answer) ? undefined : "write HOST:/path, for example db7:/srv/dumps/orders.sql.gz";
  const from = await dialogue.text(`which file, on the host of the agent of ${cluster}? (HOST:/path)`, { check });
  const identity = await dialogue.text("age identity file on this machine, if it is encrypted? (empty: it is not)", {
    check: anything,
  });
  const database = await dialogue.text("database in it, if it is of a whole cluster? (empty: it is of one)", {
    check: anything,
  });
  const place = await dialogue.select<"beside" | "replace" | "into">("where to?", [
    { name: `${cluster}, under a new name`, value: "beside" },
    { name: `${cluster}, in place; the present one is kept aside`, value: "replace" },
    { name: `${cluster}, into a present database`, value: "into" },
  ]);
  const question = place === "beside" ? "name for the restored database?" : "name of the present database?";
  const as = await dialogue.text(question, database === "" || place === "beside" ? {} : { initial: database });
  return {
    cluster,
    flags: {
      from,
      as,
      ...(identity === "" ? {} : { identity }),
      ...(database === "" ? {} : { database }),
      ...(place === "beside" ? {} : { [place]: true }),
    },
  };
}
