import { cut, disarmed } from './plain-text.ts'
import type { Story } from './types.ts'
import { factsOf, titleOf } from './words.ts'

/** Slack refuses longer ones. */
const LONGEST_HEADER = 150
const LONGEST_SECTION = 3000
const MOST_SECTIONS = 20

/** Slack reads `<...>` as links and mentions, `&` as the start of an entity; nothing else. */
const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

/**
 * A message for an incoming webhook of Slack. Blocks are `plain_text` throughout: there nothing is a mention, a link or bold,
 * whoever wrote it. The text beside them is what notifications show, and all that Mattermost and Rocket.Chat read; it holds
 * nothing that the one who asks has written as a text. The button is a link and no more: opening it approves nothing.
 */
export function slackBody(story: Story): string {
  const title = disarmed(titleOf(story))
  const link = story.request?.link
  const plain = (text: string) => ({ type: 'plain_text', text, emoji: false })
  const sections = factsOf(story)
    .slice(0, MOST_SECTIONS)
    .map(({ label, text }) => ({ type: 'section', text: plain(cut(`${label}: ${disarmed(text)}`, LONGEST_SECTION)) }))
  return JSON.stringify({
    text: escaped(link === undefined ? title : `${title}\n${link}`),
    mrkdwn: false,
    parse: 'none',
    link_names: false,
    unfurl_links: false,
    unfurl_media: false,
    blocks: [
      { type: 'header', text: plain(cut(title, LONGEST_HEADER)) },
      ...sections,
      ...(link === undefined ? [] : [{ type: 'actions', elements: [{ type: 'button', text: plain('Open the request'), url: link }] }]),
    ],
  })
}
