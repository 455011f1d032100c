import type { Operation } from "@coppice/proto/gen/coppice/control/v1/operation";

function clusterOf({ spec }: Operation): string {
  switch (spec.case) {
    case "planPhysical":
      return spec.value.restore?.clusterName ?? "";
    case "planPart":
      return spec.value.part?.restore?.clusterName ?? "";
    case "recoverPart":
      return spec.value.restore?.clusterName ?? "";
    default:
      if (spec.value === undefined) return "";
      if ("targetClusterName" in spec.value) return spec.value.targetClusterName;
      return "clusterName" in spec.value ? spec.value.clusterName : "";
  }
}

/** A hint whose commands can be typed as they stand, as far as the operation knows the names. */
export function nameKnown(hint: string, operation: Operation): string {
  const names = {
    CLUSTER: clusterOf(operation),
    HOST: operation.hostName,
    OPERATION: operation.spec.case === "decideRestore" ? operation.spec.value.restore : operation.id,
  };
  return (
    hint
      .replaceAll(/\bCLUSTER\b/g, names.CLUSTER || "CLUSTER")
      // The server that it was about is that of its host; any other host is for the reader to choose.
      .replaceAll(/(--instance|remove-instance \S+) HOST\b/g, `$1 ${names.HOST || "HOST"}`)
      .replaceAll(/\bOPERATION\b/g, names.OPERATION || "OPERATION")
  );
}
