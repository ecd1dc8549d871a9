/** One word for a POSIX shell, whatever stands in it: a name that a repository brought is shown in a line that somebody copies. */
export const shellWord = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`
