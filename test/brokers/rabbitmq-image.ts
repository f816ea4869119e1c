import { readFileSync } from 'node:fs'

import { engine } from './containers.ts'

interface ListedImage {
  readonly variable: string
  readonly official: string
  readonly local: string
}

/** `current` is 4.3, the version everything is tested on; `old` is one before 4.3. */
export type RabbitmqVersion = 'current' | 'old'

function listed(): readonly ListedImage[] {
  const file = new URL('images.json', import.meta.url)
  return JSON.parse(readFileSync(file, 'utf8')) as readonly ListedImage[]
}

/** The image to test with: the one named by the environment, else the official one, else our own. */
export async function rabbitmqImage(version: RabbitmqVersion): Promise<string> {
  const variable = version === 'current' ? 'HOLDFAST_RABBITMQ_IMAGE' : 'HOLDFAST_RABBITMQ_OLD_IMAGE'
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
