import { readFileSync } from 'node:fs'

import { engine } from './containers.ts'

interface ListedImage {
  readonly variable: string
  readonly official: string
  readonly local: string
}

function listed(): readonly ListedImage[] {
  const file = new URL('images.json', import.meta.url)
  return JSON.parse(readFileSync(file, 'utf8')) as readonly ListedImage[]
}

/** The image of this variable: the one it names, else the official one, else our own. */
export async function imageOf(variable: string): Promise<string> {
  const named = process.env[variable]
  if (named !== undefined && named !== '') return named
  const { official, local } = listed().find((one) => one.variable === variable)!
  const { container } = await engine()
  const tags = (await container.dockerode.listImages()).flatMap(({ RepoTags }) => RepoTags ?? [])
  const found = [official, local].find((one) => tags.includes(one))
  if (found !== undefined) return found
  throw new Error(
    `neither ${official} nor ${local} is here: run 'node test/brokers/images.mjs', or name an image in ${variable}`,
  )
}
