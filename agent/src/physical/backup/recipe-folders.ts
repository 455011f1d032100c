const closedFolder = String.raw`# Prints a folder of the archive $WAL, or that one's own, that this user may not look into; fails where there is none.
closed_folder() {
  local folder=${"$"}{WAL%/*}
  if [ -d "$folder" ] && [ ! -x "$folder" ]; then
    echo "$folder"
    return
  fi
  for folder in "$WAL" "$WAL"/*/ "$WAL"/*/*/; do
    if [ -d "$folder" ] && { [ ! -r "$folder" ] || [ ! -x "$folder" ]; }; then
      echo "${"$"}{folder%/}"
      return
    fi
  done
  return 1
}`;

/**
 * The commands that end a script with the code where the archive $WAL is not there, or has a folder that cannot be looked
 * into: what lies in there would count as missing.
 */
export const requireOpenArchive = (code: number) => String.raw`${closedFolder}
if closed=$(closed_folder); then
  echo "this user may not read and enter $closed: let it, with all that lies in there, or set WAL to a copy of the archive that it can read" >&2
  exit ${code}
fi
[ -d "$WAL" ] || {
  echo "there is no archive $WAL: mount it, or set WAL to where it is" >&2
  exit ${code}
}`;

/** The commands that refuse such an archive before it is looked at. */
export const openArchiveStep = ({ systemIdentifier }: { readonly systemIdentifier: string }) =>
  `(WAL=\${WAL:-../../wal/${systemIdentifier}}\n${requireOpenArchive(1)})`;

/** The commands that tell of a folder that cannot be looked into, where the archive is not needed for anything else. */
export const tellClosedFolder = ({ systemIdentifier }: { readonly systemIdentifier: string }) =>
  `(WAL=\${WAL:-../../wal/${systemIdentifier}}
${closedFolder}
if closed=$(closed_folder); then
  echo "this user may not read and enter $closed: the server may end its recovery on a timeline that is taken" >&2
fi)`;
