import type { RuleRef } from './types.ts'

/** `role analyst, ask rule 2`: how a rule is called wherever somebody reads of it. */
export const ruleTitle = ({ document, kind, section, index }: Pick<RuleRef, 'kind' | 'document' | 'section' | 'index'>): string =>
  `${kind} ${document}, ${section} rule ${index + 1}`
