import type { RequestRow } from '../api/requests-contract.ts'
import { type Html, html } from './html.ts'
import { moment } from './layout.ts'

export const stateBadge = (state: string): Html => html`<span class="state ${state}">${state}</span>`

/** `boris/claude-code, for boris`; alone when somebody asks for himself. */
export function whoAsks({ by, chain }: Pick<RequestRow, 'by' | 'chain'>): string {
  const behind = chain.filter((name, i) => i < chain.length - 1 || name !== by)
  return behind.length === 0 ? by : `${by}, for ${behind.join(', for ')}`
}

/** One line of a list. */
export const requestLine = (row: RequestRow): Html =>
  html`<li><div class="row"><a href="/requests/${row.id}">${row.summary}</a> ${stateBadge(row.state)}</div>
<span class="small">${whoAsks(row)}${row.resource !== undefined && ` · ${row.resource}`} · ${moment(row.createdAt)}</span></li>`
