"""An MCP client made with the official Python SDK: `client.py MODE COMMAND [WORD …]`.

Starts the server and takes orders from standard input, a JSON object a line: {"list": true} or
{"call": NAME, "arguments": {…}}. Answers each with a line: names of tools, or is_error and structured content.
"""

import asyncio
import json
import sys

from mcp import Client, StdioServerParameters


def say(value):
    print(json.dumps(value), flush=True)


async def main():
    mode, command, *words = sys.argv[1:]
    async with Client(StdioServerParameters(command=command, args=words), mode=mode) as client:
        say({"protocol": client.protocol_version})
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            if "list" in order:
                listed = await client.list_tools()
                say({"tools": [tool.name for tool in listed.tools]})
            else:
                result = await client.call_tool(order["call"], order["arguments"])
                say({"is_error": bool(result.is_error), "content": result.structured_content})


asyncio.run(main())
