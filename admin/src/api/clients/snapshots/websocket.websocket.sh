websocat --protocol mcp -H "Authorization: Bearer $MPG_KEY" 'wss://gateway.example/mcp/ws'
